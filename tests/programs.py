"""Programs of training that several runs of a test share."""

import jax


def made_once(make):
    """`make`, but runs of one config get the same program, which is traced and compiled for the first.

    The evaluation is shared as well: the text of a config is always the same here. Other arguments count by
    identity.
    """
    programs = {}

    def made(config, *rest):
        key = config.to_json(), *map(id, rest)
        if key not in programs:
            programs[key] = _shared(make(config, *rest)), rest
        return programs[key][0]

    return made


def _shared(program):
    evaluators = []

    def evaluator(windows, weights):
        if not evaluators:
            evaluators.append(program.evaluator(windows, weights))
        return evaluators[0]

    fresh = jax.jit(program.fresh, out_shardings=program.shardings)
    return program._replace(fresh=fresh, evaluator=evaluator)
