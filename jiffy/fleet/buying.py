"""Which machines to buy: an integer program, solved by HiGHS.

For each offer a whole number of machines; for each group of equal containers and each offer that suits them, how many of
them go there. All find a place, what goes to an offer's machines fits on so many of them, and the price is least.

The machines of one offer count as one large one, though of one kind of container no more go there than fit on each: what
different kinds leave unused between them is bought in the next round, when it is seen.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Final

from jiffy.core.sizing import Offer, Wanted, amounts, how_many
from jiffy.errors import JiffyError
from jiffy.extras import load_extra

_SECONDS: Final = 2.0
_TIE: Final = 1e-6
"""What each machine costs besides its price: of two choices with the same price, the one with fewer machines."""


def buy(offers: Sequence[Offer], wanted: Sequence[Wanted]) -> dict[str, int]:
    """How many of each offer take all that is wanted, for the least. What the time does not suffice to prove is taken as it
    is: it fits, and may be dearer than need be."""
    highs = _open()
    highs.setOptionValue("output_flag", False)
    highs.setOptionValue("time_limit", _SECONDS)
    machines = {offer.name: highs.addIntegral(lb=0, obj=offer.price + _TIE) for offer in offers}
    placed: dict[str, list[tuple[Wanted, Any]]] = {offer.name: [] for offer in offers}
    for each in wanted:
        places = [(offer, highs.addIntegral(lb=0, ub=each.count)) for offer in offers if offer.suits(each)]
        highs.addConstr(highs.qsum(count for _, count in places) == each.count)
        for offer, count in places:
            placed[offer.name].append((each, count))
    for offer in offers:
        _fit(highs, offer, machines[offer.name], placed[offer.name])
    highs.minimize()
    if not math.isfinite(highs.getInfo().objective_function_value):
        raise JiffyError("no choice of machines was found", why=f"{len(wanted)} kinds of containers are wanted")
    chosen = {name: round(highs.val(count)) for name, count in machines.items()}
    return {name: count for name, count in chosen.items() if count}


def _fit(highs: Any, offer: Offer, machines: Any, placed: Sequence[tuple[Wanted, Any]]) -> None:
    """Of each resource as a share of what a machine has: numbers of the same size are solved better. No more of one kind
    than fit on a machine each, as a container is not divided."""
    for size, *needs in zip(amounts(offer), *(amounts(each.need) for each, _ in placed), strict=True):
        taking = [(need / size, count) for need, (_, count) in zip(needs, placed, strict=True) if need]
        if taking:
            highs.addConstr(highs.qsum(share * count for share, count in taking) <= machines)
    for each, count in placed:
        highs.addConstr(count <= how_many(amounts(offer), each.need, each.count) * machines)


def _open() -> Any:
    return load_extra("highspy", "machines cannot be chosen", "fleet").Highs()
