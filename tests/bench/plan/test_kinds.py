"""What a suite sets for a kind of task: under the file of a user's own task, and where a task has the option."""

from parbench.bench.plan.planner import Overrides, make_plan
from parbench.bench.plan.suite import Suite, load_suite
from parbench.tasks import find_task
from parbench.tasks.data.lock import RevisionLock
from tests.support.yaml_files import IMAGES, both, png, task_file


def own_images(folder, **options):
    """Write a user's own task of images, and return its file."""
    rows = [{"image": png((9 * n, 0, 0)), "label": ("cat", "dog")[n % 2]} for n in range(40)]
    both(folder, rows, ".parquet")
    return str(task_file(folder, {**IMAGES, "options": options}))


def test_a_task_of_a_users_own_starts_from_the_values_of_its_kind(tmp_path):
    path = own_images(tmp_path, fit="crop")
    overrides = Overrides(tasks=(path, "vision/digits"), methods=("lora",), seeds=(1,))
    made = make_plan(load_suite("mini"), overrides, RevisionLock(tmp_path / "lock.json"))
    own, digits = (run.spec for run in made.runs)
    assert (own.task, own.base_model) == ("my/images", digits.base_model)
    assert own.setting == digits.setting
    assert own.training == digits.training
    assert (own.options["image_size"], own.options["fit"]) == (digits.options["image_size"], "crop")


def test_an_option_in_a_users_own_file_goes_over_that_of_its_kind_and_under_the_commands(tmp_path):
    path = own_images(tmp_path, image_size=70)
    lock = RevisionLock(tmp_path / "lock.json")

    def image_size(**command):
        overrides = Overrides(tasks=(path,), methods=("lora",), seeds=(1,), **command)
        (run,) = make_plan(load_suite("mini"), overrides, lock).runs
        return run.spec.options["image_size"]

    assert image_size() == 70
    assert image_size(sets=("my/images.image_size=42",)) == 42
    assert image_size(options={"image_size": 84}) == 84


def test_options_of_a_kind_apply_only_to_tasks_that_have_them(tmp_path):
    mini = load_suite("mini")
    values = {**mini.model_dump(), "by_kind": {"text": {"options": {"image_size": 7}, "limit": 5}}}
    (layer,) = Suite.model_validate({**values, "by_task": {}}).layers(find_task("glue/sst2"))
    assert (layer.options, layer.limit) == ({}, 5)
    assert [layer.base_model for layer in mini.layers(find_task("e2e_nlg"))] == ["smollm2-135m"]
    assert mini.layers(find_task("glue/cola")) == []
