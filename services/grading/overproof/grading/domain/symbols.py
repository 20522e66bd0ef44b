"""Tables of LaTeX commands, signs, units and words that normalisation and parsing look things up in."""

from __future__ import annotations


def words(text: str) -> list[str]:
    """The words of a table that is written as text."""
    return text.split()


SPACES = frozenset(
    {"quad", "qquad", "enspace", "thinspace", "medspace", "thickspace", "hspace", "hfill", "newline", "par", "space"}
    | {",", ";", ":", " ", ">", "\n", "~"}
)
"""Commands that only move things apart."""

NOTHING = frozenset(
    {"left", "right", "big", "Big", "bigg", "Bigg", "bigl", "bigr", "Bigl", "Bigr", "biggl", "biggr", "Biggl", "Biggr"}
    | {"middle", "displaystyle", "textstyle", "scriptstyle", "limits", "nolimits", "boldsymbol", "mathbf", "mathit"}
    | {"bf", "rm", "it", "bold", "mathsf", "mathcal", "mathscr", "mathfrak", "pmb", "bm", "ensuremath", "mathop"}
    | {"operatorname", "mathrel", "mathbin", "mathord", "mathstrut", "strut", "nonumber", "notag", "smash", "hline"}
    | {
        "vec",
        "overrightarrow",
        "hat",
        "widehat",
        "underline",
        "/",
        "@",
        "mathsurround",
        "centering",
        "mathrm",
    }
    | {"boxed", "fbox", "framebox"}
    | {"tiny", "small", "normalsize", "large", "Large", "LARGE", "huge", "Huge"}
)
"""Commands that change how their argument looks, never what it is worth."""

SIGNS = {
    "cdot": "*", "times": "*", "ast": "*", "div": "/", "pm": "±", "mp": "∓", "cup": "∪", "cap": "∩", "in": "∈",
    "notin": "∉", "infty": "∞", "pi": "π", "le": "≤", "leq": "≤", "leqslant": "≤", "leqq": "≤", "ge": "≥", "geq": "≥",
    "geqslant": "≥", "geqq": "≥", "ne": "≠", "neq": "≠", "lt": "<", "gt": ">", "langle": "⟨", "rangle": "⟩",
    "lfloor": "⌊", "rfloor": "⌋", "lceil": "⌈", "rceil": "⌉", "lvert": "|", "rvert": "|", "vert": "|", "mid": "|",
    "lVert": "|", "rVert": "|", "Vert": "|", "|": "|", "{": "❴", "}": "❵", "lbrace": "❴", "rbrace": "❵", "lbrack": "[",
    "rbrack": "]", "ldots": "…", "dots": "…", "cdots": "…", "dotsc": "…", "dotsb": "…", "setminus": "∖", "emptyset": "∅", "oslash": "∅",
    "backslash": "∖", "varnothing": "∅", "to": "→", "rightarrow": "→", "mapsto": "↦", "Rightarrow": "⇒", "implies": "⇒", "colon": ":",
    "%": "%", "$": "", "#": "#", "&": "&", "_": "_", "!": "", "circ": "°", "degree": "°", "degrees": "°", "wedge": "∧",
    "forall": " for all ", "land": "∧", "vee": "∨", "lor": "∨", "prime": "'", "approx": "≈", "equiv": "≡", "sim": "~", "euro": "", "pounds": "",
    "varepsilon": "\\epsilon ", "varphi": "\\phi ", "vartheta": "\\theta ", "dfrac": "\\frac ", "tfrac": "\\frac ",
    "cfrac": "\\frac ", "dbinom": "\\binom ", "tbinom": "\\binom ", "bar": "\\overline ", "arcsin": "\\asin ",
    "arccos": "\\acos ", "arctan": "\\atan ", "tg": "\\tan ", "ctg": "\\cot ", "arctg": "\\atan ", "lg": "\\log ",
}  # fmt: skip
"""What a command is written as after normalisation; text that begins with a backslash stays a command."""

UNICODE = {
    "−": "-", "–": "-", "—": "-", "‐": "-", "‑": "-", "×": "*", "·": "*", "⋅": "*", "∙": "*", "∗": "*", "÷": "/", "∕": "/",
    "⁄": "/", "√": "\\sqrt ", "∛": "\\sqrt[3]", "≦": "≤", "≧": "≥", "⩽": "≤", "⩾": "≥", "º": "°", "˚": "°", "∘": "°",
    "′": "'", "’": "'", "‘": "'", "“": "\"", "”": "\"", "⟮": "(", "⟯": ")", "∣": "|", "￥": "¥",
    "ζ": "\\zeta ", "η": "\\eta ", "ξ": "\\xi ", "ψ": "\\psi ", "χ": "\\chi ", "ν": "\\nu ", "κ": "\\kappa ",
    "Γ": "\\Gamma ", "Δ": "\\Delta ", "Θ": "\\Theta ", "Λ": "\\Lambda ", "Φ": "\\Phi ", "Ψ": "\\Psi ", "Ω": "\\Omega ",
    "α": "\\alpha ", "β": "\\beta ", "γ": "\\gamma ", "δ": "\\delta ", "ε": "\\epsilon ", "θ": "\\theta ", "λ": "\\lambda ",
    "μ": "\\mu ", "σ": "\\sigma ", "φ": "\\phi ", "ϕ": "\\phi ", "ω": "\\omega ", "τ": "\\tau ", "ρ": "\\rho ", "⋯": "…",
    "∠": "\\angle ", "∶": ":", "㎡": "m^2", "㎥": "m^3", "㎝": "cm", "㎜": "mm", "㎞": "km", "㎏": "kg",
    "、": ",", "，": ",", "；": ";", "。": ".", "（": "(", "）": ")", "：": ":", "𝜋": "π", "【": "[", "】": "]",
    "ℝ": "\\mathbb{R}", "ℤ": "\\mathbb{Z}", "ℕ": "\\mathbb{N}", "ℚ": "\\mathbb{Q}", "ℂ": "\\mathbb{C}",
}  # fmt: skip
"""Signs that people and models write for the plain ones."""

SUPERSCRIPTS = dict(zip("⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻ⁿⁱˣ⁽⁾", "0123456789+-nix()", strict=True))
SUBSCRIPTS = dict(zip("₀₁₂₃₄₅₆₇₈₉ₙₖₘₓ₊₋", "0123456789nkmx+-", strict=True))
VULGAR = {"½": "1/2", "⅓": "1/3", "⅔": "2/3", "¼": "1/4", "¾": "3/4", "⅕": "1/5", "⅖": "2/5", "⅗": "3/5", "⅘": "4/5",
          "⅙": "1/6", "⅚": "5/6", "⅛": "1/8", "⅜": "3/8", "⅝": "5/8", "⅞": "7/8"}  # fmt: skip

FUNCTIONS = {
    name: name
    for name in words(
        "sin cos tan cot sec csc sinh cosh tanh coth asin acos atan acot ln log exp sqrt abs floor ceil gcd lcm min max sgn cis"
    )
} | {"arcsin": "asin", "arccos": "acos", "arctan": "atan", "arccot": "acot"}
"""Names read as functions, with or without a backslash."""

UNKNOWN_FUNCTIONS = frozenset({"f", "g", "h", "f^-1", "g^-1", "h^-1"})
"""Names of functions of which nothing is known but their name; the last three are inverses."""

NAMED_CONSTANTS = {"pi": "π", "inf": "∞", "infinity": "∞", "oo": "∞"}

NUMBER_WORDS = {
    word: value
    for value, word in enumerate(
        words(
            "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen "
            "seventeen eighteen nineteen twenty"
        )
    )
}
SCALE_WORDS = {"hundred": 10**2, "thousand": 10**3, "million": 10**6, "billion": 10**9, "trillion": 10**12, "dozen": 12}

WORDS = frozenset(
    words(
        "yes no odd even true false none not the are is of all any or and max min red day mon tue wed thu fri sat sun both "
        "one two six ten add sub dne for if when with by at "
        "men man boy boys dog dogs cat cats car cars cow cows pen pens egg eggs toy toys cup cups box bag "
        "bags hen hens pig pigs bus hat hats key keys bed beds jar jars job jobs kid kids tie ties"
    )
)
"""Short words that must not be read as a product of letters."""

SAME_WORDS = {
    "dne": "does not exist",
    "limit does not exist": "does not exist",
    "converges": "convergent",
    "diverges": "divergent",
    "infinite": "infinitely many",
    "infinitely many solutions": "infinitely many",
    "infinite solutions": "infinitely many",
    "infinite number of solutions": "infinitely many",
}
"""Words that say the same; what is left out is different."""
