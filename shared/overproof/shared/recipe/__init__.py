"""The recipe: what to compute. YAML or JSON → frozen pydantic models; an unknown field is an error.

Nothing here says where things are (that is `settings`), and no setting changes a result.
"""

from overproof.shared.recipe.data import Data, DataSource, Given, Model, Models, ModelSource
from overproof.shared.recipe.judging import Grading, GradingOptions, MajorityRule, PolicyName, SelectionPolicy
from overproof.shared.recipe.part import MAX_SAMPLES, Part, Scalar
from overproof.shared.recipe.prompt import SUFFIX, PromptOptions, Shot
from overproof.shared.recipe.sampling import ACCOUNTING, EngineOptions, EvaluationOptions, SamplingOptions
from overproof.shared.recipe.training import LoraOptions, ProbeOptions, TrainingOptions
from overproof.shared.recipe.whole import NEEDS, Goal, Recipe

__all__ = [
    "ACCOUNTING",
    "Data",
    "DataSource",
    "EngineOptions",
    "EvaluationOptions",
    "Given",
    "Goal",
    "Grading",
    "GradingOptions",
    "LoraOptions",
    "MAX_SAMPLES",
    "MajorityRule",
    "Model",
    "ModelSource",
    "Models",
    "NEEDS",
    "Part",
    "PolicyName",
    "ProbeOptions",
    "PromptOptions",
    "Recipe",
    "SUFFIX",
    "SamplingOptions",
    "Scalar",
    "SelectionPolicy",
    "Shot",
    "TrainingOptions",
]
