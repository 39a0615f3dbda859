"""Which truncation method claims which law: `python tests/claims_table.py` writes docs/claims.md.

The table and the property tests are made from the same declaration, ftnn.truncation.METHODS.
"""

from pathlib import Path

from ftnn.truncation import CLAIMS, METHODS

PATH = Path(__file__).parents[1] / "docs" / "claims.md"


def cell(method, claim):
    """What the table says about one method and one claim."""
    if claim not in method.claims:
        return "–"
    if claim == "optimal":
        return f"{method.factor:g} ×"
    return "yes"


def pretty(cost):
    """Signs in place of names: D^2 chi to D² χ."""
    for name, sign in (("chi", "χ"), ("^2", "²"), ("^3", "³")):
        cost = cost.replace(name, sign)
    return cost


def table():
    """The table in Markdown."""
    names = list(METHODS)
    lines = [f"| claim | {' | '.join(names)} |", f"|---|{'---|' * len(names)}"]
    for claim, text in CLAIMS.items():
        lines.append(f"| {text} | {' | '.join(cell(METHODS[n], claim) for n in names)} |")
    rows = (
        ("its error is known", lambda m: "exactly" if m.error == "exact" else "by estimate"),
        ("digits of float64 that survive", lambda m: "all" if m.digits == 1.0 else "half"),
        ("random", lambda m: "by seed" if m.seeded else "no"),
        ("leading cost a site", lambda m: pretty(m.cost)),
        ("source", lambda m: m.source),
    )
    lines += [f"| {text} | {' | '.join(show(METHODS[n]) for n in names)} |" for text, show in rows]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    PATH.write_text(table())
