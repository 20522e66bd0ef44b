"""The recipe: what to compute. YAML or JSON → frozen pydantic models; an unknown field is an error.

Nothing here says where things are (that is `settings`), and no setting changes a result.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from overproof.shared.deepspeed_keys import objection

MAX_SAMPLES = 1024
"""More completions per problem than this is a mistake in the recipe, not a plan."""

SUFFIX = "Please reason step by step, and put your final answer within \\boxed{}."

EMBEDDINGS = frozenset({"lm_head", "embed_tokens", "wte", "embed_out", "word_embeddings"})
"""Usual names of embedding and output layers."""

Scalar = str | int | float | bool | None


def _unset(value: object) -> bool:
    """Fields left so are not written: recipes and artifacts from before the field was there keep their keys."""
    return value is None or value == "none"


class Part(BaseModel):
    """A part of the recipe."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class DataSource(Part):
    """A data set, named in exactly one way: `generator`, `upload`, `file`, `hub` or `artifact`."""

    generator: Literal["demo-math"] | None = None
    """The generator of MATH-like problems that ships with Overproof."""
    upload: str | None = Field(None, pattern=r"^ds_[0-9a-f]{32}$")
    """Id of a data set sent to `POST /v1/datasets`."""
    file: str | None = None
    """A .jsonl, .csv or .parquet file below the data root of the installation."""
    hub: str | None = Field(None, pattern=r"^[\w.-]+(/[\w.-]+)?$")
    """A data set of the Hugging Face hub."""
    artifact: str | None = Field(None, pattern=r"^[a-z_]+/[0-9a-f]{32}$")
    """A table that an earlier run made: `<stage>/<key>`."""
    config: str | None = None
    """Hub only: the configuration (subset)."""
    revision: str | None = None
    """Hub only: branch, tag or commit; a commit makes the run repeatable."""
    split: str | None = None
    """Generator: train, val or test. Hub: the split."""
    n: int | None = Field(None, ge=1)
    """How many rows: needed by the generator; elsewhere the first n."""
    seed: int = 0
    """Generator only."""
    columns: dict[str, str] = {}
    """Our column name → theirs, e.g. `{problem: question, answer: final}`."""
    license: str | None = None
    """SPDX id or a sentence; recorded in the report and the model card."""

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        given = [name for name in ("generator", "upload", "file", "hub", "artifact") if getattr(self, name)]
        if len(given) != 1:
            raise ValueError(
                f"name the data set by exactly one of generator, upload, file, hub, artifact; got {given or 'none'}"
            )
        if self.generator and not (self.n and self.split):
            raise ValueError("a generator needs n (how many problems) and split (train, val or test)")
        return self

    @property
    def name(self) -> str:
        """A short name for reports."""
        return str(self.generator or self.upload or self.file or self.hub or self.artifact)


class ModelSource(Part):
    """A model: a hub id with a revision, a folder under the model root, or `run:<id>` (the student of an earlier run)."""

    name: str = Field(min_length=1, max_length=200)
    revision: str | None = None
    license: str | None = None
    """Overrides what the model card says."""


def _model(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    name, _, revision = value.partition("@")
    return {"name": name, "revision": revision or None}


Model = Annotated[ModelSource, BeforeValidator(_model)]
"""`name@revision` or the fields of ModelSource."""


class Data(Part):
    """The problem sets."""

    train: DataSource | None = None
    """Problems that the teacher solves; the student never sees any other."""
    test: DataSource | None = None
    """Locked problems, used only to compare models."""
    on_overlap: Literal["error", "drop"] = "error"
    """What to do when a training problem shares a group with a test problem."""
    on_ungradable: Literal["error", "keep"] = "error"
    """What to do when a gold answer cannot be read: stop before sampling, or go on and count those rows as `ungradable`."""


class Models(Part):
    """Who teaches and who learns."""

    teacher: Model | None = None
    student: Model | None = None
    evaluate: tuple[Model, ...] = ()
    """Further checkpoints to evaluate (goal `evaluate`)."""


class Shot(Part):
    """A worked example in the prompt."""

    problem: str
    solution: str


class PromptOptions(Part):
    """How a problem becomes a prompt; the same for the teacher, the students and the training rows."""

    system: str | None = None
    """The system turn; None: none is sent (the model's own template may add its default)."""
    template: str = "{problem}\n\n" + SUFFIX
    """The user's turn; `{problem}` is replaced, nothing else is interpreted."""
    few_shot: tuple[Shot, ...] = ()
    """Shown to every model that is sampled; training rows leave them out, so that the student learns to do without."""

    @model_validator(mode="after")
    def _has_problem(self) -> Self:
        if "{problem}" not in self.template:
            raise ValueError("template must contain {problem}")
        return self

    def render(self, problem: str) -> str:
        """The user's turn for one problem."""
        return self.template.replace("{problem}", problem)

    def messages(self, problem: str) -> list[dict[str, str]]:
        """The chat turns before the model's answer: system, the worked examples, the problem."""
        turns = [{"role": "system", "content": self.system}] if self.system is not None else []
        for shot in self.few_shot:
            turns.append({"role": "user", "content": self.render(shot.problem)})
            turns.append({"role": "assistant", "content": shot.solution})
        return [*turns, {"role": "user", "content": self.render(problem)}]


class EngineOptions(Part):
    """Which engine samples, and how it is set up."""

    kind: Literal["transformers", "vllm", "openai", "canned"] = "vllm"
    """transformers: any machine, slow; vllm: GPUs (or vLLM's CPU build); openai: a server that speaks OpenAI's chat completions, at
    `OVERPROOF_OPENAI_BASE_URL`; canned: no model at all, for measuring the pipeline."""
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    max_model_len: int | None = Field(None, ge=64)
    """Prompt + completion tokens; None: what the model's config says."""
    batch_size: int = Field(64, ge=1, le=4096)
    """Sequences that the Transformers engine runs at once."""
    tensor_parallel_size: int = Field(1, ge=1, le=64)
    gpu_memory_utilization: float = Field(0.9, gt=0, le=1)
    min_success_ratio: float = Field(0.99, ge=0, le=1)
    """A shard with fewer prompts answered than this share fails; single failed prompts become rows with the reason."""
    options: dict[str, Scalar] = {}
    """Further vLLM engine arguments by their own names (`enforce_eager: true`); objects as one line of JSON. openai: further
    fields of the request's body."""
    logprobs: bool = False
    """Whether the mean log-probability of each completion is kept; Transformers has it for free, others compute it."""
    price_per_million_prompt_tokens: float = Field(0.0, ge=0)
    """openai: US dollars for what the server reads."""
    price_per_million_completion_tokens: float = Field(0.0, ge=0)
    """openai: US dollars for what it writes, reasoning with it."""
    budget_usd: float | None = Field(None, gt=0)
    """openai: the run pauses once its own completions have cost this much; None: no limit."""

    @model_validator(mode="after")
    def _priced(self) -> Self:
        prices = self.price_per_million_prompt_tokens + self.price_per_million_completion_tokens
        if self.kind != "openai" and (prices or self.budget_usd is not None):
            raise ValueError("prices and budget_usd are for kind openai; remove them, or choose kind: openai")
        if self.budget_usd is not None and not prices:
            raise ValueError("budget_usd counts nothing without prices; set price_per_million_completion_tokens too")
        return self

    def cost_usd(self, prompt_tokens: float, completion_tokens: float) -> float:
        """What this many tokens cost in US dollars."""
        per_million = (
            prompt_tokens * self.price_per_million_prompt_tokens
            + completion_tokens * self.price_per_million_completion_tokens
        )
        return per_million / 1e6


ACCOUNTING = {"price_per_million_prompt_tokens", "price_per_million_completion_tokens", "budget_usd"}
"""Fields of EngineOptions that say what completions cost, not what they are: no artifact's key depends on them."""


class SamplingOptions(Part):
    """How the teacher solves the training problems."""

    samples_per_pass: int = Field(4, ge=1, le=MAX_SAMPLES)
    """Completions per unfinished problem in one pass."""
    max_samples: int = Field(8, ge=1, le=MAX_SAMPLES)
    """Never more completions than this for one problem."""
    enough: int | None = Field(None, ge=1)
    """A problem with this many correct completions is finished; None: every problem gets max_samples."""
    quota: Literal["uniform", "difficulty"] = "uniform"
    """uniform: every problem is to have `enough` correct completions. difficulty: in proportion to its failure rate so far, from one up to
    `enough` (DART's Uniform and Prop2Diff, arXiv 2407.13690), so that what easy problems leave is spent on hard ones."""
    temperature: float = Field(0.7, ge=0, le=4)
    top_p: float = Field(1.0, gt=0, le=1)
    top_k: int = Field(0, ge=0)
    max_tokens: int = Field(2048, ge=1, le=1_000_000)
    stop: tuple[str, ...] = ()
    seed: int = Field(0, ge=0, lt=2**31)

    @model_validator(mode="after")
    def _differ(self) -> Self:
        if self.temperature == 0 and self.max_samples > 1:
            raise ValueError(
                "max_samples > 1 with temperature 0 draws the same completion again and again; raise the temperature"
            )
        if self.quota == "difficulty" and self.enough is None:
            raise ValueError(
                "quota: difficulty shares out correct completions: say how many are enough (sampling.enough)"
            )
        return self


class EvaluationOptions(Part):
    """One evaluation spec for every model."""

    samples: int = Field(1, ge=1, le=MAX_SAMPLES)
    temperature: float = Field(0.0, ge=0, le=4)
    top_p: float = Field(1.0, gt=0, le=1)
    max_tokens: int = Field(2048, ge=1, le=1_000_000)
    stop: tuple[str, ...] = ()
    seed: int = Field(0, ge=0, lt=2**31)
    resamples: int = Field(2000, ge=100, le=100_000)
    """Bootstrap resamples behind every interval."""


class GradingOptions(Part):
    """How answers are judged."""

    seconds_per_answer: float = Field(2.0, gt=0, le=60)
    """Wall-clock budget for comparing one answer; a slower one is `timeout`, counted apart from `wrong`."""
    strict: bool = False
    """Both answers must be written as the same kind of thing with the same unit: no `x=5` for 5, `10%` for 0.1, `5 cm` for 5."""
    order_matters: bool = False
    """Whether `1, 2` differs from `2, 1`; sets in braces stay sets."""
    decimal_tolerance: float = Field(0.0, ge=0, le=0.1)
    """Largest relative difference at which a number written as a decimal is accepted; 0: it must be exact."""


class Grading(GradingOptions):
    """How answers are judged, and how much of it is looked at again."""

    audit: float = Field(0.0, ge=0, le=1)
    """Share of the verdicts that are compared with Math-Verify's own: what differs is the artifact `audit`. Changes no verdict."""

    @property
    def options(self) -> GradingOptions:
        """What a verdict depends on."""
        return GradingOptions(**self.model_dump(exclude={"audit"}))


class MajorityRule(Part):
    """When the completions of a problem agree clearly on an answer: all three must hold."""

    min_votes: int = Field(3, ge=2, le=MAX_SAMPLES)
    """Completions that give the answer: two that err alike are no sign."""
    min_share: float = Field(0.6, ge=0.5, le=1)
    """Their share of all completions of the problem, those without an answer included."""
    min_lead: int = Field(2, ge=1, le=MAX_SAMPLES)
    """More votes than the next answer has by at least this many; the gold answer is one of the others."""


PolicyName = Literal["all", "shortest", "shortest_k", "below_median", "below_median_global"]


class SelectionPolicy(Part):
    """Which correct completions become training rows."""

    policy: PolicyName = "shortest"
    """all; shortest (one per problem); shortest_k; below_median (of the problem's correct ones); below_median_global (of all correct ones)."""
    k: int = Field(2, ge=1, le=MAX_SAMPLES)
    """For shortest_k."""
    max_per_problem: int | None = Field(None, ge=1)
    """At most this many rows per problem, whatever the policy (the shortest first; for `all`, the first drawn)."""
    val_share: float = Field(0.05, ge=0, le=0.5)
    """Share of groups held out for validation loss."""
    max_tokens: int | None = Field(None, ge=1)
    """Leave out longer completions."""
    labels: Literal["gold", "majority"] = "gold"
    """gold: a completion is correct when it agrees with the gold answer. majority: with the answer that a clear majority (`majority`) of the
    problem's completions gives, where there is no gold answer that can be read or the majority contradicts it. For training rows only."""

    @property
    def label(self) -> str:
        """A short name, unique among a recipe's policies."""
        name = f"shortest_{self.k}" if self.policy == "shortest_k" else self.policy
        return name if self.labels == "gold" else f"{name}-majority"


class LoraOptions(Part):
    """Train low-rank adapters (Hu et al. 2021, arXiv 2106.09685) instead of all weights; they are merged into the student at the end."""

    rank: int = Field(16, ge=1, le=1024)
    alpha: float = Field(32, gt=0)
    """The adapter's product is scaled by alpha / rank."""
    dropout: float = Field(0, ge=0, lt=1)
    """Share of an adapter's inputs that is left out in training."""
    targets: Literal["all-linear"] | tuple[str, ...] = "all-linear"
    """Layers that get an adapter, by the end of their name (q_proj, down_proj); all-linear: every one but the output layer."""
    quantize: Literal["none", "nf4"] = "none"
    """nf4: hold the frozen weights in four bits (QLoRA, Dettmers et al. 2023, arXiv 2305.14314). Needs a GPU and bitsandbytes."""

    @model_validator(mode="after")
    def _layers(self) -> Self:
        if not self.targets:
            raise ValueError("targets names no layer; leave it out to adapt every linear one")
        tied = [name for name in self.targets if name.rpartition(".")[2] in EMBEDDINGS]
        if self.targets != "all-linear" and tied:
            raise ValueError(
                f"targets may not hold {tied[0]}: embedding and output layer often share their weights, which a merge would change twice"
            )
        return self


class ProbeOptions(Part):
    """Solutions that the student writes while it is being trained, greedily, for a fixed set of validation problems."""

    every_steps: int = Field(100, ge=1)
    """Optimizer steps between two probes; one comes before the first step and one after the last, too."""
    problems: int = Field(32, ge=1, le=1024)
    """How many validation problems, drawn by the training's seed; never test problems."""
    max_tokens: int = Field(1024, ge=1, le=1_000_000)
    """Longest solution; a longer one is counted as truncated."""


class TrainingOptions(Part):
    """Supervised fine-tuning of the student."""

    epochs: float = Field(3, gt=0, le=1000)
    max_steps: int | None = Field(None, ge=1)
    """Stop after this many optimizer steps, whatever `epochs` says: equal budgets for policies that keep more or fewer rows."""
    learning_rate: float = Field(1e-5, gt=0, le=1)
    scheduler: Literal["cosine", "linear", "constant"] = "cosine"
    warmup_share: float = Field(0.05, ge=0, lt=1)
    global_batch_size: int = Field(32, ge=1)
    """Rows per optimizer step over all processes."""
    micro_batch_size: int = Field(8, ge=1)
    """Rows per process and forward pass; accumulation follows."""
    global_batch_tokens: int | None = Field(None, ge=16)
    """Tokens per optimizer step over all processes, instead of `global_batch_size` rows; needs `micro_batch_tokens`."""
    micro_batch_tokens: int | None = Field(None, ge=16)
    """Pack rows end to end, at most this many tokens per process and forward pass, instead of padding `micro_batch_size` rows."""
    max_length: int = Field(4096, ge=16)
    """Prompt + completion tokens; longer rows are dropped and counted, never cut."""
    weight_decay: float = Field(0.01, ge=0)
    adam_beta2: float = Field(0.999, gt=0, lt=1)
    max_grad_norm: float = Field(1.0, gt=0)
    dtype: Literal["float32", "bfloat16"] = "bfloat16"
    gradient_checkpointing: bool = False
    zero_stage: Literal[0, 1, 2, 3] = 1
    deepspeed: dict[str, Any] = {}
    """Merged over the DeepSpeed configuration that follows from the fields above; keys that fight with them are refused."""
    processes: int = Field(1, ge=1, le=4096)
    """Ranks: one per GPU, or CPU processes over gloo."""
    save_every_steps: int = Field(100, ge=1)
    evaluations_per_epoch: int = Field(1, ge=0, le=100)
    """Times per epoch that the validation loss is computed."""
    patience: int | None = Field(None, ge=1)
    """Stop after this many validations without a better loss; None: never."""
    probe: ProbeOptions | None = None
    """Watch accuracy and tokens over the training; None: the student writes nothing before it is finished."""
    choose_by: Literal["loss", "accuracy", "last"] = "loss"
    """Which weights become the student: lowest validation loss, most correct solutions of a probe, or the last ones."""
    seed: int = Field(0, ge=0, lt=2**31)
    start_from: Literal["base", "previous"] = "base"
    """In rounds after the first: train the base student again, or go on from the last round's student."""
    lora: LoraOptions | None = Field(None, exclude_if=_unset)
    """Train adapters only; None: all weights."""
    neftune_alpha: float | None = Field(None, gt=0, exclude_if=_unset)
    """Noise on the embeddings in training (NEFTune, Jain et al. 2023, arXiv 2310.05914); 5 to 15 are usual."""
    offload: Literal["none", "optimizer", "parameters"] = Field("none", exclude_if=_unset)
    """Keep the optimizer's state, or the weights too, in the CPU's memory: slower, for students that do not fit."""

    @model_validator(mode="after")
    def _deepspeed_is_allowed(self) -> Self:
        if said := objection(self.deepspeed, self.zero_stage):
            raise ValueError(said)
        return self

    @model_validator(mode="after")
    def _sharding_allows(self) -> Self:
        if self.lora and self.lora.quantize == "nf4":
            if self.zero_stage == 3:
                raise ValueError(
                    "lora.quantize nf4 needs zero_stage 0, 1 or 2: weights in four bits cannot be cut into pieces"
                )
            if self.dtype != "bfloat16":
                raise ValueError("lora.quantize nf4 needs dtype bfloat16, in which it computes")
        if self.offload == "optimizer" and not self.zero_stage:
            raise ValueError("offload optimizer needs zero_stage 1, 2 or 3")
        if self.offload == "parameters" and self.zero_stage != 3:
            raise ValueError(
                "offload parameters needs zero_stage 3: only there are weights fetched when they are needed"
            )
        return self

    @model_validator(mode="after")
    def _accuracy_is_watched(self) -> Self:
        if self.choose_by == "accuracy" and self.probe is None:
            raise ValueError(
                "choose_by accuracy needs probe: say how often, on how many problems, e.g. probe: {every_steps: 50}"
            )
        return self

    @model_validator(mode="after")
    def _batch_divides(self) -> Self:
        if self.micro_batch_tokens is None and self.global_batch_tokens is not None:
            raise ValueError("global_batch_tokens needs micro_batch_tokens: only packed rows can be counted in tokens")
        if self.micro_batch_tokens is not None:
            if self.micro_batch_tokens < self.max_length:
                raise ValueError(
                    f"micro_batch_tokens {self.micro_batch_tokens} is less than max_length {self.max_length}: a row must fit"
                )
            return self
        if self.global_batch_size % self.processes:
            raise ValueError(
                f"global_batch_size {self.global_batch_size} is not a multiple of processes {self.processes}"
            )
        return self


class Given(Part):
    """Tables made elsewhere, for a recipe that names only a part of the loop."""

    completions: DataSource | None = None
    further_completions: tuple[Annotated[str, Field(pattern=r"^[a-z_]+/[0-9a-f]{32}$")], ...] = ()
    """Artifacts with more completions of the same problems, e.g. the later sampling passes of the run that made `completions`."""
    grades: DataSource | None = None
    selected: DataSource | None = None
    evaluations: tuple[str, ...] = ()
    """Ids of earlier runs whose evaluations are compared (goal `compare`)."""
    regrade: bool = False
    """Goal `compare`: judge the runs' completions again, by `grading` and today's grader, before comparing; nothing is sampled."""


Goal = Literal["distil", "sample", "grade", "select", "train", "evaluate", "compare"]

NEEDS: dict[str, tuple[str, ...]] = {
    "distil": ("data.train", "data.test", "models.teacher", "models.student"),
    "sample": ("data.train", "models.teacher"),
    "grade": ("data.train", "given.completions"),
    "select": ("data.train",),
    "train": ("given.selected", "models.student"),
    "evaluate": ("data.test", "models.evaluate"),
    "compare": ("given.evaluations",),
}


class Recipe(Part):
    """Everything that a run depends on."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9_-]{0,40}$")
    goal: Goal = "distil"
    """distil: the whole loop; the others name one part of it. select samples and grades first unless completions are given."""
    data: Data = Data()
    models: Models = Models()
    given: Given = Given()
    prompt: PromptOptions = PromptOptions()
    engine: EngineOptions = EngineOptions()
    teacher_engine: EngineOptions | None = None
    """Engine of `models.teacher` alone, where it is another one, e.g. a hosted teacher of students that are sampled here."""
    sampling: SamplingOptions = SamplingOptions()
    evaluation: EvaluationOptions = EvaluationOptions()
    grading: Grading = Grading()
    majority: MajorityRule = MajorityRule()
    """Which problems are put on the list of gold answers to review, and labelled where `selection.labels` says so."""
    selection: tuple[SelectionPolicy, ...] = (SelectionPolicy(),)
    """One student is trained per policy; the first one's student is the next round's teacher."""
    training: TrainingOptions = TrainingOptions()
    rounds: int = Field(1, ge=1, le=20)
    """In round k + 1 the student of round k teaches."""
    problems_per_shard: int = Field(100, ge=1, le=100_000)
    """A shard is minutes of work: what a lost worker loses."""

    @model_validator(mode="after")
    def _complete(self) -> Self:
        missing = [path for path in NEEDS[self.goal] if not _get(self, path)]
        if missing:
            raise ValueError(f"goal {self.goal} needs {', '.join(missing)}")
        if self.goal == "select" and not (self.given.completions or self.models.teacher):
            raise ValueError("goal select needs given.completions, or models.teacher to make them")
        if self.given.further_completions and (self.given.grades or not self.given.completions):
            raise ValueError("given.further_completions go with given.completions, and all of them are graded here")
        if self.given.regrade and self.goal != "compare":
            raise ValueError("given.regrade is for goal compare; goal grade judges given.completions again")
        if self.has_majority_labels:
            self._check_majority()
        labels = [policy.label for policy in self.selection]
        if len(labels) != len(set(labels)) or not labels:
            raise ValueError(f"selection needs at least one policy, each once; got {labels}")
        return self

    @model_validator(mode="after")
    def _probe_can_be_judged(self) -> Self:
        if self.training.choose_by != "accuracy":
            return self
        if self.goal == "train" and self.data.train is None:
            raise ValueError("training.choose_by accuracy needs data.train: the gold answers of the validation rows")
        if self.goal == "distil" and any(policy.val_share == 0 for policy in self.selection):
            raise ValueError("training.choose_by accuracy needs validation problems: set selection.val_share above 0")
        return self

    @model_validator(mode="after")
    def _engines_serve(self) -> Self:
        if self.goal == "distil" and self.engine.kind == "openai":
            raise ValueError(
                "engine.kind openai cannot sample the students that a run trains; "
                "move it to teacher_engine and choose another engine.kind"
            )
        teacher, student = self.models.teacher, self.models.student
        if self.teacher_engine and teacher and student and teacher.name == student.name:
            raise ValueError("teacher_engine needs a models.teacher with another name than models.student")
        if self.teacher_engine and self.teacher_engine.budget_usd and self.engine.budget_usd:
            raise ValueError("a run has one budget; set budget_usd in engine or in teacher_engine, not in both")
        return self

    def engine_of_teacher(self) -> EngineOptions:
        """The engine of `models.teacher`."""
        return self.teacher_engine or self.engine

    @property
    def is_priced(self) -> bool:
        """Whether somebody asks money for completions."""
        return any(engine.cost_usd(1, 1) for engine in (self.engine, self.engine_of_teacher()))

    @property
    def budget_usd(self) -> float | None:
        """What the run's own completions may cost."""
        return self.engine_of_teacher().budget_usd or self.engine.budget_usd

    @property
    def has_majority_labels(self) -> bool:
        """Whether a policy asks for them."""
        return any(policy.labels == "majority" for policy in self.selection)

    @property
    def may_lack_answers(self) -> bool:
        """Whether training problems need no gold answer: such rows are kept, and their completions may label them."""
        return self.has_majority_labels and self.data.on_ungradable == "keep"

    def _check_majority(self) -> None:
        if self.goal not in ("distil", "select"):
            raise ValueError(
                f"selection.labels: majority is for training rows, and goal {self.goal} selects none: "
                "test problems are judged by their gold answers only"
            )
        if not self.given.completions and self.sampling.max_samples < self.majority.min_votes:
            raise ValueError(
                f"selection.labels: majority needs {self.majority.min_votes} completions that agree (majority.min_votes), but "
                f"sampling.max_samples is {self.sampling.max_samples}: raise it"
            )


def _get(recipe: Recipe, path: str) -> Any:
    value: Any = recipe
    for name in path.split("."):
        value = getattr(value, name)
    return value
