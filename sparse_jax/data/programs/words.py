"""Word lists from which every name and text of the generated programs is drawn."""


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


# Short names that the programs use so often that even a small vocabulary holds each as one token.
COMMON_NAMES = _words("x y n a b name value count size total data key item")

NOUNS = _words(
    """
    account animal answer apple artist author badge basket batch bird block board book bottle box
    branch bridge brush bucket budget button cable camera card cart cell chain chair channel chapter
    circle client clock cloud coin color column cookie corner course cursor customer dealer degree desk
    device dinner doctor document dollar door driver edge editor employee engine error event factor farm
    feature field figure finger flag flower folder forest frame friend game garden gate
    grade graph group guest guitar hammer height house image insect invoice island jacket job joke
    kernel ladder lamp leader leaf lemon lesson letter level limit line link lock machine mark
    market mask matrix meal member message meter minute mirror model month motor movie name needle
    network node note offer office option orange order owner packet page painter panel
    paper parent partner party path pencil person phone photo picture pilot pixel place planet plant
    plate player pocket point port price printer prize product profile project puzzle queue record
    region report request result reward river road robot rocket room route row rule sample scale scene
    school score screen seat section sensor server session shape sheet ship shirt shoe shop signal
    singer sister slot song source spoon stage star station step stone store street student summer
    symbol system table target task teacher team tenant test ticket tiger timer title token tool tower
    track train tree trip truck tunnel user valley vector vehicle village voice wallet waiter wheel
    window winner winter word worker writer yard zone
    """
)

ADJECTIVES = _words(
    """
    active average basic best big bright broken busy cheap clean clear cold common cool correct dark
    deep dry early empty extra fair fast final first flat free fresh full good great green half happy
    hard heavy hidden high hot huge inner kind large last late lazy left light little local long loose
    loud low lucky main max min mixed narrow new next nice old open outer past plain poor pretty proper
    public quick quiet rare raw ready real red rich right rough round safe second secret shared sharp
    short silent simple single slow small smart smooth soft solid spare special square static steady
    strong sweet tall thick thin third tiny top total true upper usual valid warm weak wet whole wide
    wild wrong young
    """
)

VERBS = _words(
    """
    add apply ask build buy call change check choose clean clear close collect combine compare compute
    copy count create cut divide draw drop edit fetch fill find fix follow format gather get give grow
    handle hide hold join keep list load make mark measure merge move open order pack paint parse pass
    pick place plan play print process pull push put rank read receive remove rename repeat reset save
    scan search select sell send set share show sort split start stop store study take test trace track
    trim turn update use visit walk watch weigh write
    """
)

# Names of things that a program prints to, sends to or tells, called with one text.
SPEAKERS = _words("print print print print print log show send notify alert")

# What a file name says about how the file is opened.
READ_STEMS = _words("input source config settings template request")
WRITE_STEMS = _words("output result report log summary backup")
FILE_ENDINGS = ("txt", "csv", "json")
