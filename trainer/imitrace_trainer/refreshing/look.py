"""Look at an agent's traces: how many decisions there are to learn from, and which tools it has."""

import polars as pl

from imitrace.canonical import content_hash
from imitrace_trainer.cohort import CohortConfig
from imitrace_trainer.frames import gather
from imitrace_trainer.refreshing.runs import Seen
from imitrace_trainer.survey import Frames
from imitrace_trainer.tool_contracts import find_contracts
from imitrace_trainer.tool_ledger import ToolRules


def look(frames: Frames, cohort: CohortConfig, rules: ToolRules, before: Seen | None) -> Seen:
    """Return what a source has for a cohort now.

    Args:
        frames: the tables of ``schema.TABLES`` by name.
        cohort: whose decisions count, and of which roles.
        rules: what is decided about the agent's tools.
        before: what the last turn found, None before the first.
    """
    own = (pl.col("agent") == cohort.agent) & pl.col("policy_role").is_in([*cohort.roles]) & pl.col("complete")
    began = pl.col("started_at")
    since = 0 if before is None else before.newest
    counted = frames["steps"].filter(own).select(rows=pl.len(), newest=began.max(), newer=(began > since).sum())
    ((rows, newest, newer),) = gather({"steps": counted})["steps"].rows()
    current = find_contracts(frames, cohort.agent).current(cohort.agent, rules.superseded)
    tools = content_hash({name: contract.schema_hash for name, contract in current.items()})
    return Seen(rows=rows, newest=newest or 0, newer=newer, tools=tools, ledger=rules.hash)
