"""``solo-frossl dashboard``: the view that would be saved, and what keeps it from being saved."""

import json
import sys
from types import SimpleNamespace

import pytest
import wandb
from wandb_workspaces.workspaces import internal

from solo_frossl.cli.dashboard import dashboard, metrics


@pytest.fixture
def saved(monkeypatch):
    """What a user with a key sends to W&B."""
    sent = []
    monkeypatch.setattr(wandb, "login", lambda **options: True)
    monkeypatch.setattr(wandb, "Api", lambda: SimpleNamespace(default_entity="me", client=None))
    monkeypatch.setattr("wandb_workspaces.workspaces.interface.get_app_url", lambda api: "https://wandb.example.org")

    def upsert(view):
        sent.append(
            (view.entity, view.project, view.display_name, json.loads(view.spec.model_dump_json(by_alias=True)))
        )
        return {"upsertView": {"view": {"name": "nw-x", "id": "1"}}}

    monkeypatch.setattr(internal, "upsert_view2", upsert)
    return sent


def sections_of(spec):
    return {s["name"]: s["panels"] for s in spec["section"]["panelBankConfig"]["sections"]}


def test_the_view_has_every_metric_over_the_epochs_by_method(saved, capsys):
    assert dashboard(["--project", "p"]) == 0
    ((entity, project, name, spec),) = saved
    assert (entity, project, name) == ("me", "p", "methods per epoch")
    sections = sections_of(spec)
    assert list(sections) == ["Accuracy", "Spectrum", "Training"]
    lines = [panel["config"] for panels in sections.values() for panel in panels if "Line Plot" in panel["viewType"]]
    assert {metric for line in lines for metric in line["metrics"]} == metrics()
    assert {line["xAxis"] for line in lines} == {"epoch"}
    assert [line["chartTitle"] for line in lines if line["yLogScale"]] == [
        "largest eigenvalues of the embeddings' covariance",
        "condition number l1/l14 of embeddings",
        "largest eigenvalues of the features' covariance",
    ]
    (runs,) = spec["section"]["runSets"]
    assert runs["grouping"] == [{"section": "run", "name": "group"}]
    assert spec["section"]["settings"]["xAxis"] == "epoch"


def test_the_view_of_one_dataset_has_its_runs_only(saved):
    assert dashboard(["--project=p", "--entity=team", "--dataset=stl10"]) == 0
    ((entity, _, name, spec),) = saved
    assert (entity, name) == ("team", "methods per epoch: stl10")
    (condition,) = spec["section"]["runSets"][0]["filters"]["filters"]
    assert (condition["key"], condition["op"], condition["value"]) == (
        {"section": "config", "name": "dataset"},
        "=",
        "stl10",
    )


def test_a_dry_run_needs_no_key_and_sends_nothing(saved, monkeypatch, capsys):
    monkeypatch.setattr(wandb, "login", lambda **options: False)
    assert dashboard(["--dry_run", "--dataset=digits"]) == 0
    view = json.loads(capsys.readouterr().out)
    assert (view["project"], view["name"]) == ("solo-frossl", "methods per epoch: digits")
    drawn = {metric for section in view["sections"] for panel in section["panels"] for metric in panel.get("y", [])}
    assert drawn == metrics()
    assert saved == []


def refused(arguments, capsys):
    with pytest.raises(SystemExit) as stop:
        dashboard(arguments)
    assert stop.value.code == 2
    error = capsys.readouterr().err
    assert "Traceback" not in error
    return error


def test_without_a_key_the_remedy_is_named(monkeypatch, tmp_path, capsys):
    for name in ("WANDB_API_KEY", "WANDB_MODE", "WANDB_BASE_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    monkeypatch.setenv("WANDB_CONFIG_DIR", str(tmp_path))
    wandb.teardown()  # W&B reads the environment once
    assert "W&B has no API key: get one with `wandb login`" in refused(["--project=p"], capsys)


def test_what_wandb_refuses_is_said(saved, monkeypatch, capsys):
    def refuse(view):
        raise wandb.errors.CommError("project p was not found.")

    monkeypatch.setattr(internal, "upsert_view2", refuse)
    error = refused(["--project=p"], capsys)
    assert "W&B did not save the view in me/p: project p was not found. The project must exist" in error


def test_without_the_package_the_remedy_is_named(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "wandb_workspaces.workspaces", None)
    assert "pip install 'solo-frossl[dashboard]'" in refused(["--dry_run"], capsys)
