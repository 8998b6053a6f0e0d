"""The runs of the published studies, as their records have them, are the runs that their settings make today."""

import json
import tarfile
from pathlib import Path

import pytest

from parbench.bench.record.run_spec import RunSpec
from parbench.bench.train.settings import TrainingSettings
from parbench.methods import find_method

STUDIES = Path(__file__).parents[3] / "reports" / "studies"


def records(archive):
    """Yield the id and the spec of every run of an archive."""
    with tarfile.open(archive) as file:
        for member in file:
            if Path(member.name).name == "record.json":
                spec = json.load(file.extractfile(member))["spec"]
                yield Path(member.name).parent.name, RunSpec(**spec)


@pytest.mark.parametrize("archive", sorted(STUDIES.glob("*/records.tar.gz")), ids=lambda path: path.parent.name)
def test_the_settings_of_a_published_run_are_written_as_they_were(archive):
    found = list(records(archive))
    assert found
    for run_id, spec in found:
        assert spec.run_id == run_id
        assert TrainingSettings(**spec.training).deciding() == spec.training
        setting = find_method(spec.method).method.setting_type.model_validate(spec.setting).model_dump(mode="json")
        # A record has no field that was added later.
        assert {name: setting[name] for name in spec.setting} == spec.setting
