"""Hostile answers by class, made here: what must be judged in time, without a crash and never as right.

`hostile()` makes them all. In each class the texts stand for different values (or for none), so no two of them are the same
answer, and none is the answer `7` or the case's own `lure`: the value that a careless reader would take it for.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

SAFE = "7"
"""The answer that no hostile text is."""


class Case(NamedTuple):
    """`kind` is the class, `text` the hostile answer, `lure` an answer it must not be taken for."""

    kind: str
    text: str
    lure: str = SAFE


Class = Callable[[], Iterator[str | tuple[str, str]]]
_CLASSES: dict[str, Class] = {}


def hostile() -> list[Case]:
    """Every case, class by class."""
    return [
        Case(kind, *((made,) if isinstance(made, str) else made)) for kind, make in _CLASSES.items() for made in make()
    ]


def _class(kind: str) -> Callable[[Class], Class]:
    def keep(make: Class) -> Class:
        _CLASSES[kind] = make
        return make

    return keep


# --- numbers that are too large -----------------------------------------------------------------------------------------


@_class("power tower")
def _towers() -> Iterator[str]:
    for base in ("9", "2", "10", "99", "-3", "0.5", "\\frac{3}{2}", "\\pi", "x", "1.0000001"):
        yield f"{base}^{{9^{{9^{{9^{{9}}}}}}}}"
    yield "9**9**9**9"
    yield "9^9^9^8"
    yield "^".join(["2"] * 300)
    yield "^{".join(["3"] * 40) + "}" * 39
    yield "(((2^{64})^{64})^{64})^{64}"
    yield "\\left(9^{9}\\right)^{\\left(9^{9}\\right)}"
    yield "2^{-9^{9^{9}}}"
    yield "1-2^{-9^{9^{9}}}"
    yield "7^{9^{9^{0}}\\cdot 10^{9}}"


@_class("exponential of exponentials")
def _double_exponentials() -> Iterator[str]:
    yield "\\exp(\\exp(\\exp(\\exp(99))))"
    yield "e^{e^{e^{e^{10}}}}"
    yield "\\exp(10^{10^{10}})"
    yield "\\cosh(\\cosh(\\cosh 9))"
    yield "\\sinh(10^{9})"
    yield "10^{10^{10^{10}}}"
    yield "2^{2^{2^{2^{2^{2}}}}}"
    yield "\\tan(10^{2000})"
    yield "\\sin(9^{9^{9}})"
    yield "\\cos(\\exp(1000))"
    yield "\\ln(9^{9^{9^{9}}})"
    yield "\\log_{10^{-2000}}(9^{9^{9}})"
    yield "x^{10^{10^{10}}}"


@_class("factorial")
def _factorials() -> Iterator[str]:
    yield from (
        "(10^9)!",
        "((10!)!)!",
        "10^{9}!",
        "999999999!",
        "((((3!)!)!)!)!",
        "(-5)!",
        "(10^{-9})!",
        "(9^{9}+0.5)!",
    )
    yield "factorial(10**9)"
    yield "5" + "!" * 2000
    yield "\\left(\\frac{10^{9}}{3}\\right)!"
    yield "1000!!!"
    yield "\\frac{10000!}{9999!}"
    yield "(\\pi)!\\cdot 10^{2000}"
    yield "\\frac{(10^6)!}{(10^6-1)!}"


@_class("binomial")
def _binomials() -> Iterator[str]:
    yield "\\binom{10^9}{5\\cdot 10^8}"
    yield "\\binom{\\binom{\\binom{100}{50}}{9}}{9}"
    yield "\\dbinom{99999999}{2}"
    yield "\\binom{10^{100}}{10^{99}}"
    yield "\\binom{-10^9}{10^8}"
    yield "\\binom{600.5}{300.25}\\cdot 10^{1900}"
    yield "{10^9 \\choose 5}"
    yield "\\binom{x}{10^9}"
    yield "\\binom{1001}{500}"
    yield "\\binom{\\pi}{e}\\cdot 10^{1800}"


@_class("gcd and lcm")
def _divisors() -> Iterator[str]:
    yield "\\gcd(10^{1500}+1, 10^{1499}+1)"
    yield "\\lcm(" + ",".join(str(n) for n in range(900, 1100)) + ")"
    yield "\\gcd(9^{9^{9}}, 3)"
    yield "\\lcm(2^{19999}, 3^{12000})"
    yield "\\gcd(" + "9" * 900 + ", " + "8" * 900 + ")"
    yield "\\lcm(1.5, 10^{9}!)"
    yield "\\gcd(x, 10^{10^{10}})"
    yield "\\gcd(0, 2^{9^{9}})"
    yield "\\lcm(-10^{1000}, 10^{999}+1)"
    yield "\\gcd(\\gcd(\\gcd(10^{1999}, 7^{2000}), 10^{999999}), 3)"


@_class("scientific notation")
def _scientific() -> Iterator[str | tuple[str, str]]:
    yield "1e999", "\\infty"
    yield "-1e-999", "0"
    yield "1e-999", "0"
    yield "1e1001", "\\infty"
    yield "1e999999999", "\\infty"
    yield "-1e999999999", "-\\infty"
    yield "1e-999999999", "0"
    yield "1E+99999999999999999999", "\\infty"
    yield "7e1e1e1e1"
    yield "9.99999999999999999999999e308", "1e309"
    yield "1e400", "1e401"
    yield "4.9e-324", "0"
    yield "1e-400", "0"
    yield "7.0000000000000000000001"
    yield "6.9999999999999999999999"
    yield "7e-0000000000000000000000000001"
    yield "0.1e99999", "\\infty"


@_class("infinity and not a number")
def _not_numbers() -> Iterator[str | tuple[str, str]]:
    yield "nan", "0"
    yield "\\mathrm{NaN}", "0"
    yield "-nan"
    yield "\\infty-\\infty", "0"
    yield "\\frac{\\infty}{\\infty}", "1"
    yield "0\\cdot\\infty", "0"
    yield "\\frac00", "1"
    yield "\\frac{0}{x-x}", "0"
    yield "7/0", "\\infty"
    yield "-1/0", "-\\infty"
    yield "\\frac{7}{1-1}"
    yield "7\\cdot\\frac{0}{0}"
    yield "7+\\frac{1}{0}-\\frac{1}{0}"
    yield "\\log 0", "-\\infty"
    yield "\\ln(-0)", "-\\infty"
    yield "0^{-1}", "\\infty"
    yield "\\tan(\\pi/2)", "\\infty"
    yield "1^{\\infty}", "1"
    yield "\\infty^{0}", "1"
    yield "7+0\\cdot\\ln 0"
    yield "\\sqrt[0]{7}"
    yield "\\log_{1} 7"
    yield "\\frac{7x}{x-x}"


@_class("digits")
def _digits() -> Iterator[str]:
    for n in (999, 1000, 1001, 1999, 4300, 4301, 100_000, 1_000_000):
        yield "8" * n
    yield "8" * 1500 + "/" + "9" * 1500
    yield "0." + "3" * 1500
    yield "0." + "0" * 1500 + "7"
    yield "-" + "0" * 1998 + "7"
    yield "7" + ",000" * 600
    yield "0.\\overline{" + "142857" * 200 + "1}"
    yield "1" + "_000" * 400


# --- nesting --------------------------------------------------------------------------------------------------------------

PAIRS = (
    ("(", ")"), ("[", "]"), ("{", "}"), ("\\{", "\\}"), ("\\left(", "\\right)"), ("\\left[", "\\right)"), ("\\lfloor ", "\\rfloor "),
    ("\\lceil ", "\\rceil "), ("|", "|"), ("\\left|", "\\right|"), ("\\|", "\\|"), ("\\langle ", "\\rangle "), ("\\sqrt{", "}"),
    ("\\sqrt[3]{", "}"), ("\\frac{1}{", "}"), ("\\dfrac{", "}{2}"), ("2^{", "}"), ("x_{", "}"), ("\\text{", "}"), ("\\mathrm{", "}"),
    ("\\boxed{", "}"), ("\\fbox{", "}"), ("\\overline{", "}"), ("\\binom{9}{", "}"), ("\\log_{", "}"), ("\\sin(", ")"), ("f(", ")"),
    ("-(", ")"), ("\\pm(", ")"), ("1+(", ")"), ("$", "$"), ("$$", "$$"), ("\\(", "\\)"), ("\\[", "\\]"), ("**", "**"), ("`", "`"),
    ("\\begin{pmatrix}", "\\end{pmatrix}"), ("\\begin{cases}", "\\end{cases}"), ("\\max(8,", ")"), ("\\left\\{", "\\right\\}"),
    ("(8,", ")"), ("\\operatorname{", "}"), ("\\vec{", "}"), ("\\sqrt", ""), ("\\frac", ""), ("-", ""), ("\\sin ", ""), ("\\\\", ""),
    ("^", ""), ("_", ""), ("&", ""), ("%", ""), ("!", ""), ("'", ""), ("\"", ""), ("<answer>", "</answer>"), ("<think>", "</think>"),
)  # fmt: skip
"""What can be nested: how it opens and closes."""


@_class("nesting, closed")
def _closed() -> Iterator[str]:
    for number, (opening, closing) in enumerate(PAIRS, start=11):
        yield f"{opening * 1000}{number}{closing * 1000}"


@_class("nesting, never closed")
def _unclosed() -> Iterator[str]:
    for number, (opening, closing) in enumerate(PAIRS, start=11):
        if closing:
            yield f"{opening * 1000}{number}"


@_class("nesting, within the length limit")
def _short_nesting() -> Iterator[str]:
    for number, (opening, closing) in enumerate(PAIRS, start=11):
        times = 1900 // (len(opening) + len(closing))
        yield f"{opening * times}{number}{closing * times}"


@_class("closed too often")
def _overclosed() -> Iterator[str]:
    for number, (opening, closing) in enumerate(PAIRS, start=11):
        if closing and opening != closing:
            yield f"{opening}{number}{closing * 900}"


@_class("radicals and continued fractions")
def _radicals() -> Iterator[str]:
    for depth in (10, 20, 28, 55, 200):
        yield "\\sqrt{2+" * depth + "2" + "}" * depth
    for depth in (9, 19, 29, 60, 250):
        yield "1+\\cfrac{1}{" * depth + "3" + "}" * depth
    yield "\\sqrt[10^{9}]{2}"
    yield "\\sqrt[\\sqrt[\\sqrt[3]{3}]{3}]{3}"
    yield "\\sqrt[-10^{9}]{3}"
    yield "\\sqrt[2^{50}]{5}"


# --- length ---------------------------------------------------------------------------------------------------------------


@_class("megabytes")
def _megabytes() -> Iterator[str]:
    for unit in (
        "8",
        "eight ",
        "(",
        "{",
        "\\boxed{",
        "\\boxed{8}",
        "$",
        "$8$ ",
        "\\frac",
        " ",
        "\n",
        "\u202e",
        "8,",
        "8+",
    ):
        yield unit * (10_000_000 // len(unit))
    yield "the answer is 8. " * 600_000
    yield "\\begin{pmatrix}" + "8&" * 2_000_000


@_class("repetition")
def _repetition() -> Iterator[str]:
    for unit in (
        "the answer is ", "the answer is 8. ", "The final answer is: ", "Answer: B\n", "#### 8\n", "#### ", "**8** ", "**", "答案是8。",
        "<answer>8</answer>", "<answer>", "</think>", "<think>", "\\boxed{8}, ", "\\boxed{8} and ", "\\boxed 8 ", "\\boxed", "$8$, ", "8 ",
        "\n> 8", "Problem: ", "\nUser: 8", "<|im_end|>", "therefore ", "8/", "8.", "8,8", "x=", "-8", "or ", "\\text{or}", "\\quad ",
    ):  # fmt: skip
        yield unit * (150_000 // len(unit))


@_class("giant collection")
def _collections() -> Iterator[str]:
    row = "&".join(["8"] * 60)
    yield "\\begin{pmatrix}" + "\\\\".join([row] * 60) + "\\end{pmatrix}"
    yield "\\begin{pmatrix}" + "\\\\".join(["1&2&3&4&5&6&7"] * 9) + "\\end{pmatrix}"
    yield "\\begin{vmatrix}" + "\\\\".join(["1&2&3&4&5"] * 5) + "\\end{vmatrix}"
    yield "\\begin{array}{" + "c" * 500 + "}" + "8&" * 499 + "8\\end{array}"
    yield "\\{" + ",".join(str(n) for n in range(500)) + "\\}"
    yield "(" + ",".join(["8"] * 900) + ")"
    yield ",".join(str(n) for n in range(60))
    yield " or ".join(f"x={n}" for n in range(61))
    yield "\\cup".join(f"[{n},{n}.5]" for n in range(60))
    yield "\\cap".join(f"({n},99)" for n in range(60))
    yield "\\mathbb{R}\\setminus\\{" + ",".join(f"\\sqrt{{{n}}}" for n in range(60)) + "\\}"
    yield "\\{" + ",".join(f"\\{{{n}\\}}" for n in range(60)) + "\\}"
    yield "[[" + "],[".join(["1,2,3,4,5,6,7,8"] * 8) + "]]"
    yield ";".join(["(1,2)"] * 64)
    yield ":".join(str(n) for n in range(1, 400))
    yield " < ".join(str(n) for n in range(60))
    yield "\\pm 1" * 200
    yield ",".join(f"\\pm\\sqrt{{{n}}}" for n in range(60))


# --- arithmetic that is slow though every number is small ---------------------------------------------------------------


@_class("heavy arithmetic")
def _heavy() -> Iterator[str]:
    cells = (
        "\\sin(\\pi!)",
        "\\Gamma",
        "(\\frac13)!",
        "\\cos(\\ln(x+1))",
        "\\binom{\\pi}{e}",
        "\\sqrt{x!}",
        "\\tan(e^{x})",
        "x^{x^{x}}",
    )
    for cell in cells:
        yield "\\{" + ",".join(f"{cell}+{n}" for n in range(60)) + "\\}"
    for cell in cells:
        yield "+".join([cell] * 60)
    yield "+".join(f"(10^{{2000}}\\pi+{n})!" for n in range(30))
    yield "10^{1990}(\\pi)!+(\\sqrt2)!"
    yield "10^{1990}\\tan(\\tan(\\tan(3^{-100})))"
    yield "\\cdot".join(f"(\\frac{{{n}}}{{7}})!" for n in range(1, 60)) + "\\cdot 10^{1000}"
    cell = "+".join(["\\sin(x!)"] * 8)
    yield "\\begin{vmatrix}" + "\\\\".join(["&".join([cell] * 4)] * 4) + "\\end{vmatrix}"
    factor = "(" + "+".join(["\\ln(x)"] * 60) + ")"
    yield factor + "\\begin{vmatrix}" + "\\\\".join(["1&2&3&x"] * 4) + "\\end{vmatrix}"
    yield "+".join(f"x_{{{n}}}^{{99}}" for n in range(100))
    yield "+".join(f"\\ln({letter}!)" for letter in "abcdjkmnpqrt")
    yield "(" + "+".join("abcdhjkmnpq") + ")^{600}"
    yield "\\log_{1+10^{-900}}(1+10^{-1800})"


@_class("sums, products and integrals")
def _calculus() -> Iterator[str]:
    for sign in ("sum", "prod"):
        for body in ("k", "\\frac{1}{k^{2}}", "k!", "2^{k}", "\\sin k"):
            yield f"\\{sign}_{{k=1}}^{{10^{{9}}}} {body}"
    yield "\\prod_{k=1}^{100000000} k"
    yield "\\sum_{k=1}^{99999999} k^{k}"
    yield "\\int_0^{10^{100}} x^{x^{x}} dx"
    yield "\\int_0^\\infty \\frac{\\sin(\\tan(x))}{x^{5}+\\ln(x)} dx"
    yield "\\lim_{n\\to\\infty} (1+\\frac{1}{n})^{n^{n}}"
    yield "\\frac{d}{dx}" * 30 + " x^{x^{x}}"
    yield "\\sum_{n=0}^{10^{6}}\\binom{10^{6}}{n}"
    yield "\\prod_{p}\\frac{1}{1-p^{-2}}"


# --- code -----------------------------------------------------------------------------------------------------------------

CANARY = "{canary}"
"""Stands for a file that the payload would make."""

PAYLOADS = (
    "__import__('os').system('touch {canary}')", "eval(\"open('{canary}','w')\")", "exec(\"open('{canary}','w')\") or 7",
    "open('{canary}','w') and 7", "[open('{canary}','w'),7][1]", "(lambda: open('{canary}','w'))() and 7", "3+4 if open('{canary}','w') else 0",
    "subprocess.run(['touch','{canary}'])", "os.popen('touch {canary}').read() or 7", "7; import os; os.mknod('{canary}')",
    "().__class__.__bases__[0].__subclasses__()", "''.__class__.__mro__[1]", "globals()['__builtins__']['open']('{canary}','w')",
    "getattr(__builtins__,'op'+'en')('{canary}','w')", "sympify(\"open('{canary}','w')\")", "S(\"open('{canary}','w')\")",
    "parse_expr(\"open('{canary}','w')\")", "Integer(open('{canary}','w').write('x') and 7)", "Symbol('x').__class__.__init__.__globals__",
    "lambdify(x,\"open('{canary}','w')\")(7)", "(7).__class__(7)", "{7}.pop()", "[7][0]", "int('7')", "sum([3,4])", "len('1234567')",
    "ord('\\x07')", "eval('3+4')", "(lambda: 7)()", "3+4 or exit()", "raise SystemExit(7)", "exit()", "while True: pass", "9**9**9**9**9**9",
    "[0]*10**10", "'a'*10**10", "range(10**12)", "$(touch {canary})", "`touch {canary}`", "; touch {canary}", "| touch {canary}",
    "\\input{{canary}}", "\\write18{touch {canary}}", "\\immediate\\write18{touch {canary}}", "\\openout5={canary}", "\\def\\x{\\x\\x}\\x",
    "\\newcommand{\\a}{\\a\\a}\\a", "\\catcode`\\@=11 7", "\\csname input\\endcsname {canary}",
    "\\loop\\iftrue\\repeat", "\\includegraphics{{canary}}",
    "<script>7</script>", "{{7}}{{config}}", "${8}", "%7$s%n", "'; DROP TABLE grades; --", "8\r\nSet-Cookie: a=9", "../../../../etc/passwd",
    "!!python/object/apply:os.system ['touch {canary}']", "cos\nsystem\n(S'touch {canary}'\ntR.", "{\"$ne\": 7}",
)  # fmt: skip
"""Python, sympy, shell, TeX, templates, SQL, YAML and pickle."""


@_class("code")
def _code() -> Iterator[str]:
    yield from PAYLOADS


@_class("code as text")
def _code_as_text() -> Iterator[str]:
    for payload in PAYLOADS[:24]:
        yield f"\\text{{{payload}}}"


@_class("code as commands")
def _code_as_commands() -> Iterator[str]:
    for name in ("eval", "exec", "import", "open", "system", "compile", "globals", "getattr", "lambda", "sympify"):
        yield f"\\operatorname{{{name}}}(7)"
        yield f"\\{name}{{7}}"
        yield f"\\mathrm{{{name}}}(\\text{{7}})"


@_class("names that libraries own")
def _names() -> Iterator[str]:
    yield from (
        "S(7)",
        "N(7)",
        "E",
        "I",
        "O(7)",
        "Q",
        "zoo",
        "oo",
        "Float(7)",
        "Integer(7)",
        "Rational(7)",
        "Symbol('7')",
        "Mod(7,9)",
        "lambda",
        "True",
        "None",
        "__name__",
        "self",
        "x.real",
        "x.__class__",
        "re(7)",
        "im(7i)",
        "arg(7)",
        "diff(7x,x)",
        "integrate(1,(x,0,7))",
        "simplify(7)",
        "solve(x-7,x)",
        "Eq(7,7)",
        "7==7",
        "7 is 8",
        "x:=7",
        "not 6",
        "~-8",
        "3|4",
        "7&7",
        "14>>1",
        "3^^4",
        "0x7",
        "0b111",
        "0o7",
        "7_",
        "7L",
        "7f",
        "x_{7}",
        "\\alpha_7",
        "7^{\\prime}",
    )


# --- characters -----------------------------------------------------------------------------------------------------------


@_class("control characters")
def _controls() -> Iterator[tuple[str, str]]:
    for code in (0, 1, 7, 8, 9, 10, 11, 12, 13, 27, 31, 127, 133, 155):
        yield f"1{chr(code)}7", "17"
    yield "\x00" * 1500, "0"
    yield "8\x1b[2K7", "7"
    yield "8\x08\x087", "7"


@_class("direction of writing")
def _directions() -> Iterator[tuple[str, str]]:
    for mark in "\u202a\u202b\u202d\u202e\u2066\u2067\u2068":
        yield f"{mark}71", "17"
        yield f"{mark}71", "71"
    yield "1\u202e27\u202c", "172"
    yield "\\frac{\u202e12}{3}", "7"
    yield "\u202e" * 900 + "8", "8"


@_class("characters that are not seen")
def _invisible() -> Iterator[tuple[str, str]]:
    for mark in "\u200b\u200c\u200d\u2060\ufeff\u00ad\u034f\u061c\u180e\ufe0f\U000e0031":
        yield f"8{mark}1", "7"
    yield "\u200b" * 1500, "0"
    yield "\U000e0037", "7"


@_class("digits of other scripts")
def _scripts() -> Iterator[tuple[str, str]]:
    for zero in (
        0x0660,
        0x06F0,
        0x07C0,
        0x0966,
        0x09E6,
        0x0E50,
        0x0F20,
        0x1040,
        0x17E0,
        0x1810,
        0xA620,
        0x104A0,
        0x1D7CE,
        0xFF10,
    ):
        yield chr(zero + 8), "7"
    for text in ("7²", "7₂", "7⁷", "²7", "7½", "⑧", "Ⅷ", "㊇", "八", "𝟖", "七八", "7⁄9", "⁷8", "7̸", "7̅8"):
        yield text, "7"
    yield "7²", "72"
    yield "7₂", "72"
    yield "1½", "\\frac{11}{2}"
    yield "2⁻¹", "2-1"


@_class("surrogates and noncharacters")
def _surrogates() -> Iterator[tuple[str, str]]:
    for code in (0xD800, 0xDBFF, 0xDC00, 0xDFFF, 0xFFFE, 0xFFFF, 0xFFFD, 0x10FFFF, 0x1FFFE, 0xFDD0):
        yield f"8{chr(code)}", "8"
    yield "\ud83d\ude00", "7"
    yield "7\udc80", "7"


@_class("combining marks")
def _combining() -> Iterator[tuple[str, str]]:
    for mark in "\u0300\u0301\u0305\u0332\u0337\u0338\u20d2\u20e3\u0489\u0e47":
        yield f"8{mark * 300}", "8"


# --- one for each pattern of the code: runs that a backtracking matcher might try in every way ---------------------------


@_class("backtracking")
def _backtracking() -> Iterator[str]:
    blanks = " " * 1900
    yield from (
        f"answer{blanks}x",
        f"the final correct answer{blanks}",
        f"8{blanks}é$",
        f"${blanks}8",
        f"8{blanks}¥",
        f"^{blanks}8",
        "^ " * 900 + "8",
        "\\text" + blanks + "8",
        "\\rm " * 450 + "8",
        "\\frac" + blanks + "8",
        "\\frac " * 300 + "8",
        "$" + "\\$" * 950 + "8",
        "$8" + "\\$" * 900,
        "\\dot" + "8" * 1900,
        "8" * 1900 + "\\dot",
        "8" * 950 + "." + "8" * 940 + "\\dot",
        "]" + "," * 1900 + "8",
        "]" + "8," * 900 + "[x",
        "8" + '""' * 900 + "x",
        '8"' + '" "' * 600,
        '""' * 950,
        "8" + "aa " * 600 + "!",
        "8" + "aa/" * 600 + "!",
        "8a" * 900 + "!",
        "1,111" * 380,
        "111 " * 470 + "1 0",
        "8:" * 900,
        "a" * 1900 + "#",
        "a a" * 600 + "#",
        ".8" * 900,
        "8." * 900 + "\\overline{8}",
        "8" * 1900 + "\\overline",
        "8e8" * 600,
        "8e" + "8" * 1800 + "x",
        "`" * 1900,
        "`8`" * 600,
        "*" * 1900,
        "**8" * 600,
        "\\(" * 900,
        "\\[8\\)" * 380,
        "8…" * 900,
        "0." + "12" * 29 + "1…",
        "0." + "1234567" * 8 + "…",
        "8 or " * 380,
        "8, and " * 270,
        "_{two}" * 300,
        "8_" * 900,
        '_{"two"}' * 230,
        "8 million " * 190,
        "$8 million" * 190,
        "$8\\, " * 380,
        "€8,8" * 470,
        "8" + "\u4e00" * 1900,
        "或" * 1900,
        "8°" * 900 + "F",
        "{" + "x|" * 900 + "8}",
        "❴x|" * 600,
        "\\begin{pmatrix}" + "8\\\\" * 600,
        "8\\begin{array}" * 130,
        "\\end{matrix}" * 150,
        "8∈" * 900,
        "k∈ℤ," * 470,
        "(A) " * 470,
        '"(A)"' * 380,
        "8 to " * 380,
        "3:0" * 600,
        "10:30 pm" * 230,
        "base " * 380 + "2",
    )


@_class("backtracking in a solution")
def _long_backtracking() -> Iterator[str]:
    for unit in (
        "\\boxed ", "\\boxed{ ", "\\boxed{the final ", "\\boxed{}", "\\boxed{?}", "\\text{ ", "-\\boxed{", "<answer>8", "####\t", "\n####",
        "\n" + " " * 7 + "#", "final answer", "final  numerical  answer ", "answer ** ", "answers are", "option ", "**8*", "***", "8 / 8.",
        "1,111", "1,", "8 %", "-.8", "−8", "\n\t>", "> ", ". ", "?A", "\\[8\\", "\\(8", "$8\n", "$$8", "\\", "{", "}", "{}", "}{",
        "Problem 8:", "\n**Solution", "<|eot_id|>", "</s>", "\nQuestion", "or,and", "\\,;", "&", "…", "..", "= - ", "simply just ",
    ):  # fmt: skip
        yield unit * (190_000 // len(unit))
    for run in (" ", "\t", "8", "*", "#", "=", "-", ".", "a", "\n"):
        yield "the answer is" + run * 190_000
        yield "\\boxed" + run * 190_000


# --- nearly right ---------------------------------------------------------------------------------------------------------


@_class("nearly the same value")
def _nearly() -> Iterator[tuple[str, str]]:
    for text in (
        "7+10^{-50}", "7-10^{-900}", "7\\cdot(1+2^{-200})", "\\sqrt{49+10^{-60}}", "7+e^{-1000}", "7\\tanh(50)", "7\\tanh(200)", "7\\tanh(2000)",
        "7\\tanh(10^{9})", "7\\coth(300)", "7\\cos(10^{-25})", "7\\sec(2^{-59})", "7((2^{1/2^{50}})^{1/2^{50}})^{1/2^{50}}",
        "7\\sqrt[2^{59}]{\\sqrt[2^{59}]{\\sqrt[2^{59}]{2}}}",
        "7+\\lfloor x/10^{5}\\rfloor", "7+\\lfloor x^2/10^{20}\\rfloor", "\\max(7,x-10^{6})", "\\min(7,x+10^{9})", "7\\cdot\\text{sgn}(x+10^{6})",
        "7\\frac{|x+10^{9}|}{x+10^{9}}",
        "7\\sqrt[10^{9}]{\\sqrt[10^{9}]{\\sqrt[10^{9}]{\\sqrt[10^{9}]{9}}}}", "7+\\sin(10^{30}\\pi+10^{-45})",
        "7.0000000000000000000000000000000000000000001",
        "\\frac{7\\cdot 10^{50}+1}{10^{50}}", "7+\\frac{1}{1000!}", "\\lfloor 8-10^{-70}\\pi\\rfloor+10^{-70}", "7^{1+10^{-60}}",
        "7+\\arctan(10^{-60})",
    ):  # fmt: skip
        yield text, "7"
    yield "e^{\\pi\\sqrt{163}}", "262537412640768744"
    yield "\\lfloor 8-10^{-70}\\pi\\rfloor", "8"
    yield "\\lceil 7+10^{-70}\\pi\\rceil", "7"
    yield "10^{20}+1", "10^{20}"
    yield "2^{-98}", "2^{-99}"
    yield "\\sin(10^{-30})", "10^{-30}"
    yield "\\sqrt{10^{100}+1}", "10^{50}"
    yield "|x-10^{6}|", "10^{6}-x"
    yield "\\sqrt{(x-10^{6})^2}", "10^{6}-x"
    yield "\\frac{\\pi}{2}", "\\arctan(10^{60})"
    yield "x+10^{-50}", "x"
    yield "x^{1+10^{-50}}", "x"


@_class("notations that hide the value")
def _notations() -> Iterator[tuple[str, str]]:
    for text in (
        "\\phantom{8}7\\phantom{9}8", "\\color{white}8\\color{black}7", "\\hspace{9cm}87", "\\rule{7cm}{7cm}", "\\kern7pt 8", "7\\kern-9pt 8",
        "\\llap{7}8", "\\sout{8}7", "\\cancel{8}7", "\\not=7", "\\neq 7", "7%8", "% 7", "8\\%7", "7\\footnote{8}", "\\ref{7}", "\\label{7}",
        "\\href{7}{8}", "\\verb|7|8", "7\\\\8", "7&8", "7|8", "7\\mid 8", "7\\nmid 8", "7~8", "7\\ldots 8", "...7", "7...", "7?", "?7", "<7", ">7",
        "≈7", "\\approx 6.999", "7\\pm 1", "\\pm 7", "7\\mp 0.1", "7^{*}", "7^{T}", "\\bar{7}8", "\\tilde{7}8", "7\\%",
    ):  # fmt: skip
        yield text, "7" if text not in {"≈7", "7\\%", "...7", "7...", "7?", "7~8"} else "8"


@_class("words and marks that make another answer of it")
def _taken_back() -> Iterator[tuple[str, str]]:
    for text in (
        "not 7", "7 is wrong", "7 (rejected)", "wrong: 7", "7 fails", "the answer is not 7",
        "at least 7", "7 or 8", "7'", "7_a", "\\boxed{8}, not \\boxed{7}", "-\\boxed{7}",
        "\\boxed{7}^2", "\\sqrt{\\boxed{7}}", "\\boxed{7}-\\boxed{8}", "\\frac{\\boxed{7}}{\\boxed{8}}",
        "7 \\approx 12", "7 \\text{k}", "\\text{base 8: }7", "7 is incorrect", "7 was rejected", "\\hphantom{7}",
    ):  # fmt: skip
        yield text, "7"
    for text in ("0x7", "0b111", "0o7", "0X7", "0x7+0x7", "-0x7"):
        yield text, "0"


@_class("long sentences, sums of degrees and chains for the patterns that look for short ones")
def _long_sentences() -> Iterator[str]:
    yield from (
        "a is " * 399, "so " * 660, "ab " * 600 + "is", "yes, " + "a " * 900, "1°+" * 600 + "x", "1" * 1_900 + "°1", "<1," * 600,
        "\\phantom{" * 200, "8\\text{ (not" * 150, "(1," * 600 + "^T", "\\frac12" * 200 + "(1,2)", "diverges to " * 160 + "∞",
        "Thus, " * 300 + "\\boxed{" * 20, "0x" + "f" * 1_900, "the limit of " * 150 + "is", "8 (rejected " * 150,
    )  # fmt: skip
