"""Objectives as models print them, set in LaTeX. A word that is not known is an error, so that nothing is set wrongly.

LaTeX is written without a backslash before punctuation, which Markdown would take away.
"""

import re

CODE, PRIOR = r"q(z \mid x)", "p(z)"
TERMS = {
    "recon": r"-\log p(x \mid z)",
    "kl": rf"\mathrm{{KL}}({CODE} \Vert {PRIOR})",
    "tc": r"\mathrm{KL}(q(z) \Vert \prod_j q(z_j))",
    "mmd": rf"\mathrm{{MMD}}^2(q(z), {PRIOR})",
    "swd": rf"\mathrm{{SW}}_2^2(q(z), {PRIOR})",
    "dip": r"\Big( \sum_{i \neq j} C_{ij}^2 + \sum_i (C_{ii} - 1)^2 \Big)",
    "adversarial": r"\mathrm{softplus}(-D(z))",
    "contraction": r"\Vert \partial z / \partial x \Vert_F^2",
    "embedding": r"\frac{1}{2} \Vert z \Vert^2",
    "decoder_weights": r"\sum_l \Vert W_l \Vert_F^2",
    "l1": r"\Vert z \Vert_1",
    "commitment": r"\sum_l \Vert z_e^l - \mathrm{sg}(z^l) \Vert^2",
    "generator": r"\ell_G(D(y))",
    "features": r"\ell_F(x, y)",
    "exp_elbo": r"\mathrm{mean}_y e^{-2 (\mathrm{recon}(y) + \beta_{\mathrm{neg}} \mathrm{kl}(y)) / P}",
    "kl_decoded": rf"\mathrm{{mean}}_y \mathrm{{KL}}(q(z \mid y) \Vert {PRIOR})",
}
"""What the names of logged terms stand for."""

MEANINGS = {
    "recon": "the distortion, by the likelihood of the image given its code $z$",
    "kl": "the rate, by the KL divergence of the code's posterior from the prior",
    "tc": "total correlation: how far the dimensions of the codes of all images together are from independent",
    "mmd": "maximum mean discrepancy of the codes of all images together from the prior, by a kernel",
    "swd": "squared sliced Wasserstein distance of the codes of all images together from the prior",
    "dip": "distance of the covariance $C$ of the codes over images from the identity",
    "adversarial": "loss of the encoder against a critic $D$ that tells codes from draws of the prior",
    "contraction": "how much the code changes with the pixels",
    "embedding": "size of the code",
    "decoder_weights": "size of the weights $W_l$ of the decoder's layers",
    "l1": "sum of absolute values of the code",
    "commitment": "distances of what each level or grid quantises, $z_e^l$, from its code $z^l$, without gradient (sg)",
    "generator": "loss of the decoder against a critic $D$ that tells decoded images $y$ from real ones",
    "ratio": "$\\rho$, the ratio of the gradients of `recon` and `generator` at the decoder's last layer",
    "features": "distance of $x$ from the decoded $y$ in features of the critic, $-\\log N(D_l(x); D_l(y), I)$",
    "exp_elbo": "the ELBO that the encoder gives decoded images $y$, as a score",
    "kl_decoded": "KL divergence of the codes of decoded images $y$",
    "kl_1": "KL divergence of the Gaussian dimensions",
    "kl_2": "KL divergence of the categories",
}
"""The same in words."""

SYMBOLS = {
    "kl_1": r"\mathrm{KL}_1",
    "kl_2": r"\mathrm{KL}_2",
    "C1": "C_1",
    "C2": "C_2",
    "ratio": r"\rho",
    "log": r"\log",
    "w": "w",
    "mean": r"\mathrm{mean}",
    "sum": r"\sum_l",
    "max": r"\max",
    "...": r"\dots",
    **{sign: sign for sign in ("+", "-", "(", ")", "|", ",")},
}

FLOOR = re.compile(r"sum max\(([\d.]+), mean kl\)")
GROUPS = re.compile(r"^mean over (\d+) groups of (.*)$")
TOKEN = re.compile(r"\.\.\.|\d[\d,]*(?:\.\d+)?(?:e[+-]?\d+)?|[A-Za-z]\w*|\S")
WEIGHT = re.compile(r"\bw\d|log w")


class UnknownWordError(ValueError):
    """A formula has a word that has no symbol."""


def equations(formula: str, *, of_labels: bool = False) -> dict[str, str]:
    """The parts of a formula in LaTeX, by whom they are minimised: an empty name for all parameters.

    Remarks in brackets and after a comma are left out: they stand in the formula itself. UnknownWordError for a word
    without a symbol.
    """
    parts = formula.split("; for the encoder ")
    names = ("",) if len(parts) == 1 else ("the decoder and the prior", "the encoder")
    return {name: _equation(part, of_labels) for name, part in zip(names, parts, strict=True)}


def meanings(formula: str) -> dict[str, str]:
    """The terms of a formula by name, in words, in their order."""
    found = {word: MEANINGS[word] for word in dict.fromkeys(TOKEN.findall(formula)) if word in MEANINGS}
    return found | ({"w": "the importance weight of a draw $z_k$ of the code"} if WEIGHT.search(formula) else {})


def _equation(formula: str, of_labels: bool) -> str:
    core, _, remark = formula.partition(", ")
    if core.count("(") != core.count(")"):  # the comma stands within brackets
        core, remark = formula, ""
    core = re.sub(r" \((?=[\w.]+ )[^()]*[a-z]{2} [^()]*\)", "", core)  # (from 10% of the run on)
    text = _typeset(core)
    if WEIGHT.search(core):
        text += r", \qquad w_k = \frac{p(x, z_k)}{q(z_k \mid x)}"
    if remark.startswith("codes of "):
        text = text.replace(r"z \mid x", r"z \mid \tilde{x}") + r", \qquad z \text{ from } \tilde{x} = " + noisy(remark)
    return text.replace(r"x \mid z", r"x \mid z, y").replace(r"z \mid x", r"z \mid x, y") if of_labels else text


def _typeset(core: str) -> str:
    core = re.sub(r"(^|(?<=[+(] ))1 (?=[a-z])", "", core)  # a weight of 1
    if found := GROUPS.match(core):
        return rf"\underset{{{found[1]} \text{{ groups}}}}{{\mathrm{{mean}}}} \Big( {_typeset(found[2])} \Big)"
    if found := FLOOR.search(core):
        before, after = core[: found.start()], core[found.end() :]
        floor = rf"\sum_l \max({found[1]}, \mathrm{{mean}} ~ \mathrm{{KL}}_l)"
        return f"{_typeset(before)} {floor} {_typeset(after)}".strip()
    core = re.sub(r"\(1/(\d+)\)", r"one_in_\1", core)
    core = re.sub(r"\((encoder|decoder)\)", r"for_\1", core)
    return " ".join(map(_symbol, TOKEN.findall(core)))


def _symbol(word: str) -> str:
    if word in TERMS:
        return rf"\underbrace{{{TERMS[word]}}}_{{\text{{{word.replace('_', ' ')}}}}}"
    if word in SYMBOLS:
        return SYMBOLS[word]
    if found := re.fullmatch(r"w(\d+)", word):
        return f"w_{{{found[1]}}}"
    if found := re.fullmatch(r"one_in_(\d+)", word):
        return rf"\frac{{1}}{{{found[1]}}}"
    if found := re.fullmatch(r"for_(\w+)", word):
        return rf"\enspace \text{{({found[1]})}} \enspace"
    if found := re.fullmatch(r"([\d.,]+)e([+-]?\d+)", word):
        power = rf"10^{{{int(found[2])}}}"
        return power if found[1] == "1" else rf"{found[1]} \cdot {power}"
    if re.fullmatch(r"[\d.,]+", word):
        return word
    raise UnknownWordError(f"there is no symbol for {word!r}; add it to scripts/zoo/formulas.py")


def noisy(remark: str) -> str:
    """What the encoder sees, after ``codes of``: a sum of an image and Gaussian noise in LaTeX, others in words."""
    seen = remark.removeprefix("codes of ")
    if found := re.fullmatch(r"x \+ N\(0, ([\d.]+)\^2\)", seen):
        return rf"x + \varepsilon, \quad \varepsilon \sim N(0, {found[1]}^2)"
    return rf"\text{{{seen}}}"
