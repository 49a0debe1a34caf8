"""packaging/alert-rules.yml: Prometheus accepts it, it fires when it should, and names what is."""

from __future__ import annotations

import asyncio
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from hitless.cli import cli
from hitless.core.evidence import Word
from hitless.core.observation import Level
from hitless.server.clock import wall_s
from hitless.server.node import NodeConfig, opened
from hitless.server.serve import new_keys
from hitless.server.store_operators import ProviderRow
from hitless.server.store_rows import Audit


PACKAGING = Path(__file__).parents[2] / "packaging"
RULES, TESTS = PACKAGING / "alert-rules.yml", PACKAGING / "alert-tests.yml"

EXPRESSIONS = dict(re.findall(r"- alert: (\w+)\n +expr: (.+)\n", RULES.read_text()))
"""What makes each alert fire."""

LIMIT_S = 30.0

needs_promtool = pytest.mark.skipif(
    shutil.which("promtool") is None,
    reason="needs promtool (apt-get install --no-install-recommends prometheus)",
)


def promtool(*words):
    """Run promtool to its end."""
    return subprocess.run(
        ["promtool", *map(str, words)],
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
        check=False,
    )


@pytest.fixture(scope="module")
def families(tmp_path_factory):
    """Return what `/metrics` of a node shows, by name."""
    file = tmp_path_factory.mktemp("node") / "a.db"

    async def main():
        config = NodeConfig(database=str(file), name="a")
        async with asyncio.timeout(LIMIT_S), opened(config, new_keys(wall_s())) as node:
            audit = Audit(who="a test", what="provider.added", target="agora", because="a test")
            await node.store.providers.put(ProviderRow(name="agora", adapter="whip"), audit)
            await node.refresh()
            return (await node.metrics.page()).decode()

    return {family.name: family for family in text_string_to_metric_families(asyncio.run(main()))}


@pytest.fixture(scope="module")
def samples(families):
    """Return the labels that each name has been seen with."""
    found = {name: [] for name in families}
    for family in families.values():
        for sample in family.samples:
            found.setdefault(sample.name, []).append(sample.labels)
    return found


def test_every_rule_is_read_here():
    """
    What the tests below go through is all there is.
    """
    assert RULES.read_text().count("- alert:") == len(EXPRESSIONS) > 0


@pytest.mark.parametrize("alert", EXPRESSIONS)
def test_a_rule_names_metrics_that_a_node_has(samples, alert):
    """
    A rule on a name that nobody exports never fires, and nobody is told.
    """
    named = re.findall(r"\bhitless_\w+", EXPRESSIONS[alert])

    assert named
    assert [name for name in named if name not in samples] == []


@pytest.mark.parametrize("alert", EXPRESSIONS)
def test_a_rule_picks_labels_that_its_metric_can_have(samples, alert):
    """
    The same holds for a label's value.
    """
    levels = {level.value for level in Level}
    for name, matchers in re.findall(r"\b(hitless_\w+)\{(.+?)\}", EXPRESSIONS[alert]):
        for label, values in re.findall(r'(\w+)=~?"(.+?)"', matchers):
            known = {found[label] for found in samples[name] if label in found}
            if label == "level":  # shown once a probe has ended
                known = levels
            assert set(values.split("|")) <= known, (name, label)


def test_a_provider_shows_every_verdict_that_there_is(samples):
    """
    The check above sees what it needs to.
    """
    shown = {found["verdict"] for found in samples["hitless_provider_verdict"]}

    assert shown == {word.value for word in Word}


def test_an_operator_is_told_the_next_command():
    """
    By every alert, and it is one that exists.
    """
    commands = re.findall(r'next: "?hitless (\w+)', RULES.read_text())

    assert len(commands) == len(EXPRESSIONS)
    assert [name for name in commands if cli.get_command(None, name) is None] == []


@needs_promtool
@pytest.mark.realtime
def test_promtool_accepts_the_rules():
    """
    As Prometheus itself reads them.
    """
    done = promtool("check", "rules", RULES)

    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{len(EXPRESSIONS)} rules found" in done.stdout


@needs_promtool
@pytest.mark.realtime
def test_alerts_fire_when_they_should_and_not_beside_it():
    """
    packaging/alert-tests.yml says when.
    """
    done = promtool("test", "rules", TESTS)

    assert done.returncode == 0, done.stdout + done.stderr


@needs_promtool
@pytest.mark.realtime
@pytest.mark.parametrize("alert", EXPRESSIONS)
@pytest.mark.parametrize("broken", ["vector(1) > 2", "vector(1)"], ids=["never", "always"])
def test_a_rule_that_fires_never_or_always_is_found(tmp_path, alert, broken):
    """
    No alert is left out of those tests.
    """
    text = RULES.read_text().replace(f"expr: {EXPRESSIONS[alert]}\n", f"expr: {broken}\n")
    (tmp_path / RULES.name).write_text(text)
    shutil.copy(TESTS, tmp_path)

    done = promtool("test", "rules", tmp_path / TESTS.name)

    assert done.returncode == 1, done.stdout + done.stderr
    assert "FAILED" in done.stdout + done.stderr
