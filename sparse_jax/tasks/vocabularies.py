"""Word lists of the splits `shifted` and `words`: programmers' words that no generated program has."""

from typing import NamedTuple

from sparse_jax.data.programs import words


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


class Words(NamedTuple):
    """What names and texts are made of."""

    common: tuple[str, ...]
    nouns: tuple[str, ...]
    adjectives: tuple[str, ...]
    verbs: tuple[str, ...]


FAMILIAR = Words(words.COMMON_NAMES, words.NOUNS, words.ADJECTIVES, words.VERBS)

UNFAMILIAR = Words(
    common=_words("amount entry flow gap hits depth m weight p q ratio rest span temp u w"),
    nouns=_words(
        """
        adapter alias anchor archive backend barrier bracket buffer bundle cache callback canvas catalog
        checksum cluster codec command commit counterpart connection console container counter crawler cron
        daemon dataset decoder delta diff digest dispatcher domain draft emitter encoder endpoint envelope
        epoch estimate exporter fallback fixture formatter fragment gateway handler hash header heap hook
        importer indexer instance interval jitter journal keyword layer ledger lexer listener loader locale
        logger lookup manifest merger metric migration module monitor mutex namespace observer offset operand
        outcome outlet parser patch payload peer pipeline plugin poller pool prefix proxy quota reader
        registry replica resolver retry router schema scope selector shard snapshot socket stack stream
        stub suffix switch tag tensor thread throttle trigger tunable upload validator variant watcher
        widget
        """
    ),
    adjectives=_words(
        """
        abstract ambient atomic binary cached compact concrete cyclic default dense digital dynamic eager
        external frozen generic implicit inline internal legacy linear locked lossy merged mutable native
        nested nullable opaque optional parallel partial pending portable primary recursive remote scoped
        sealed serial sorted sparse stale stateless strict temporary trusted typed unique unsafe verbose
        virtual volatile
        """
    ),
    verbs=_words(
        """
        aggregate allocate append assign attach bind broadcast bootstrap capture cast clone compile compress
        configure connect decode delete deploy deserialize detach disable dispatch download emit enable encode
        enqueue escape evaluate execute expand export extract filter flatten flush forward generate hash
        hydrate infer inject insert install intercept invoke iterate lookup map migrate
        mutate negotiate normalize mount patch persist poll publish query rebuild reconcile
        reduce refresh register reload render replicate requeue resolve retry rotate sanitize schedule
        serialize shuffle simulate subscribe synchronize tokenize transform traverse truncate
        validate verify
        """
    ),
)
