"""The habits of the three rooms, each as a check over their sources, and for each check a violation that it finds."""

import ast
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
ROOMS = {"imitrace": "sdk", "imitrace_collector": "collector", "imitrace_trainer": "trainer"}

FLOOR_PLAN = """
imitrace:           semconv schema exceptions canonical shapes/__init__ shapes/plain shapes/content_parts messages
                    conformance config listening stop_signals faults redaction/__init__ redaction/rules
                    redaction/calling_codes redaction/pseudonyms redaction/readings redaction/phones
                    redaction/credentials redaction/entities redaction/redactor delivery/__init__ delivery/outbox
                    delivery/transports delivery/otlp_http delivery/otlp_grpc delivery/sender delivery/spool
                    delivery/drainer delivery/exporters chunks spans sampling pipeline provider otel_environment
                    shapes/chat_shapes shapes/tool_shapes shapes/answers shapes/pieces shapes/streams shapes/replies
                    binding history memory propagation verdict context decisions traced_stream limited_calls clones
                    steps deciding tools tracer workers process_end startup __init__ testing pytest_plugin langgraph
                    cli __main__
imitrace_collector: memory pace config tls tokens rates logs renewal compression budget gate durable rows records otlp
                    normalize histories parts trajectories scores losses fingerprints ahead blocks raw_tables
                    derived_tables foreign/__init__ foreign/dialect foreign/haystack_dialect foreign/dialects
                    foreign/said foreign/reprs foreign/text_histories foreign/results foreign/flat_messages
                    foreign/haystack_messages foreign/offered foreign/contents foreign/chains foreign/readings
                    foreign/events foreign/answers foreign/calls foreign/runs foreign/agent_records foreign/threads
                    foreign/kept_histories foreign/joined_results foreign/mending foreign/rounds foreign/conversations
                    foreign/judgements foreign/links foreign/matching foreign/observations foreign/written_calls
                    foreign/origins foreign/step_rows foreign/assembly foreign/survey link_tables joining ordered_rows
                    store_files store components derive ingest copying compaction backup amounts retention periodic
                    migrations batcher metrics health reads explanations table_stream traces refusals intake snapshot
                    schedule sql_wire sql_process sql_sandbox sql client imports/__init__ imports/conversations
                    imports/conversation_spans chat_jsonl imports/files imports/otlp_files imports/calls
                    imports/chat_datasets imports/request_logs imports/tensorzero imports/atif imports/claude_code
                    imports/codex imports/gemini_cli imports/foreign_spans imports/phoenix imports/langfuse
                    imports/mlflow imports/minari imports/formats importer rendering sql_rendering step_lines
                    http_protocol http_server http_exports freshness app arrivals grpc_server server __init__ cli
                    reads_cli maintenance_cli
imitrace_trainer:   progress intervals mean_bounds task_draws drafts state_files conditions cohort frames
                    collector_reads sources source_copies portions survey argument_fit tool_changes argument_maps
                    policy tool_contracts tool_ledger tool_findings tool_migration live_tools repetition likeness
                    orders quarantine personal step_masks clues rules reading columns places encoding out_of_fold
                    sketched_steps label_errors hindsight failures curate step_counts datasets added_rows
                    correcting/__init__ correcting/mixing correcting/corrected_episodes mask_audit dataset_changes
                    effect coverage pages curation_page kappas equivalence queue_items queue_verdicts queue_ranking
                    judged_rows correction_rows curation episodes chat_exports exports schemas conformity
                    evaluators/result evaluators/trajectories evaluators/calls evaluators/completion
                    evaluators/selection evaluators/aggregate evaluators/reasoning evaluators/anchors
                    evaluators/wordings evaluators/toxicity evaluators/injection evaluators/futureagi
                    evaluators/agreement chat_endpoint evaluators/judge_client evaluators/judge evaluators/settings
                    evaluators/scoring evaluators/sending evaluators/__init__ arguments calibration family options
                    mentions ranking subjects affordances prompts features knowledge argument_guess bags neighbours
                    network checkpoints training embedded demonstrations fit frequency linear families evaluate ladder
                    route_rules route_config thresholds canary handovers relied_tools route disagreement phrases
                    reply_slots reply_skeletons reply_templates reply_writer clone_files drift/__init__ drift/config
                    drift/sequential keys seal gate_rules paired_cases gate_report gate_signature gate_text gate
                    step_backs betting live_file evidence registry refreshing/__init__ refreshing/times
                    refreshing/config refreshing/calls refreshing/crontab refreshing/systemd refreshing/kubernetes
                    refreshing/runs refreshing/run_lock refreshing/due refreshing/look clone_list refreshing/run_desk
                    alerting/__init__ alerting/config alerting/standing alerting/alert_file alerting/webhook
                    alerting/otlp_events alerting/telling queue_desk queue_pages prices spending charges savings
                    judged_texts veto_rules discrimination critic critic_fit critic_files rehearsal scan champion
                    environment worlds/__init__ worlds/config worlds/calling worlds/kitchen worlds/cooking_games
                    worlds/cooking_tools worlds/cooking_plan worlds/textworld_cooking worlds/gymnasium_world
                    worlds/model_expert rollout correcting/config correcting/expert_budget correcting/stuck
                    correcting/rewinding correcting/switches correcting/students correcting/playing correcting/rounds
                    correcting/findings refusals courses refreshing/limits config drift/permutations
                    drift/present_features drift/two_sample drift/visited_states drift/tool_sets drift/traffic
                    drift/asking drift/findings drift/blame drift/comparisons drift/checking passport card figures
                    quality predict quality_verdicts plots quality_page gate_page drift/page measuring refits stages
                    live_watch drift_stage correction_stage champion_comparison played_cases replayed_cases gating
                    reporting trial refreshing/judged refresh refreshing/drift_in_turn refreshing/scheduled demo
                    serving/__init__ serving/config serving/metrics serving/headers serving/asked serving/chat_form
                    serving/responses_form serving/kept_responses serving/server_events serving/naming
                    serving/conversations serving/questions serving/clone_process serving/asking serving/recording
                    serving/consulting serving/callers serving/upstream serving/relay serving/proxy serving/app
                    serving/server serving/tracing __init__ datasets_cli clones_cli cli exports_cli score_cli scan_cli
                    tools_cli route_cli queue_cli savings_cli serve_cli drift_cli correct_cli schedule_cli alerts_cli
                    refresh_cli
"""
"""Every module, and each imports only what stands before it; a room's name stands for its package."""

BANNED_NAMES = {"utils", "helpers", "common", "misc", "core", "base", "manager"}
FILE_LINES, FUNCTION_LINES, INIT_LINES = 400, 50, 59
BUILTIN_ERRORS = {"ValueError", "TypeError", "AttributeError", "KeyboardInterrupt", "TimeoutError"}
UNSAFE_MODULES = {"pickle", "cloudpickle", "dill", "joblib", "marshal", "shelve"}
CURATION = "trainer/imitrace_trainer/curate.py"

Tree = dict[str, str]
"""Sources by path."""


def rooms() -> Tree:
    paths = (path for package, room in ROOMS.items() for path in (ROOT / room / package).rglob("*.py"))
    return {path.relative_to(ROOT).as_posix(): path.read_text(encoding="utf-8") for path in paths}


def floors() -> list[str]:
    plan: list[str] = []
    package = ""
    for word in FLOOR_PLAN.split():
        if word.endswith(":"):
            package = word.removesuffix(":")
        else:
            plan.append(module_name(f"room/{package}/{word}.py"))
    return plan


def module_name(path: str) -> str:
    return ".".join(path.removesuffix(".py").split("/")[1:]).removesuffix(".__init__")


def imports(source: str, plan: list[str]) -> Iterator[str]:
    """Yield what a source imports of ours, also inside functions; ``from PACKAGE import MODULE`` is the module."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name.split(".")[0] in ROOMS)
        elif isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] in ROOMS:
            inner = [f"{node.module}.{alias.name}" for alias in node.names]
            yield from (name if name in plan else node.module for name in inner)


def floor_plan(tree: Tree) -> Iterator[str]:
    plan = floors()
    for path, source in tree.items():
        module = module_name(path)
        if module not in plan:
            yield f"{path} is not on the floor plan"
            continue
        for target in imports(source, plan):
            if target not in plan or plan.index(target) >= plan.index(module):
                yield f"{path} imports {target}, which does not stand before it"
            if {module.split(".")[0], target.split(".")[0]} == {"imitrace_collector", "imitrace_trainer"}:
                yield f"{path} imports {target}: collector and trainer never meet"


def file_names(tree: Tree) -> Iterator[str]:
    yield from (f"{path} says nothing by its name" for path in tree if Path(path).stem in BANNED_NAMES)


def file_sizes(tree: Tree) -> Iterator[str]:
    for path, source in tree.items():
        if len(source.splitlines()) > FILE_LINES:
            yield f"{path} is over {FILE_LINES} lines"


def function_sizes(tree: Tree) -> Iterator[str]:
    for path, source in tree.items():
        for node in ast.walk(ast.parse(source)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and _lines(node) > FUNCTION_LINES:
                yield f"{path}: {node.name} is {_lines(node)} lines without its docstring"


def package_files(tree: Tree) -> Iterator[str]:
    for path, source in tree.items():
        if not path.endswith("__init__.py"):
            continue
        if len(source.splitlines()) > INIT_LINES:
            yield f"{path} is over {INIT_LINES} lines"
        for node in ast.parse(source).body:
            if not (isinstance(node, ast.Import | ast.ImportFrom) or _is_text(node) or _is_all(node)):
                yield f"{path}:{node.lineno} is neither an import nor __all__"


def unsafe_loading(tree: Tree) -> Iterator[str]:
    for path, source in tree.items():
        for node in ast.walk(ast.parse(source)):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            if UNSAFE_MODULES & {name.split(".")[0] for name in names}:
                yield f"{path} imports {names[0]}"
            if isinstance(node, ast.Attribute) and ast.unparse(node) == "torch.load":
                yield f"{path} calls torch.load"
            if isinstance(node, ast.keyword) and node.arg == "allow_pickle":
                yield f"{path} passes allow_pickle"


def lazy_curation(tree: Tree) -> Iterator[str]:
    for node in ast.walk(ast.parse(tree.get(CURATION, ""))):
        name = node.func.attr if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) else ""
        if name == "collect" or name.startswith(("read_", "scan_", "write_", "sink_")):
            yield f"{CURATION} calls {name}"


def config_fields(tree: Tree) -> Iterator[str]:
    for path, source in tree.items():
        for node in ast.walk(ast.parse(source)):
            if not (isinstance(node, ast.ClassDef) and node.name.endswith("Config")):
                continue
            for field, below in zip(node.body, [*node.body[1:], None], strict=True):
                if isinstance(field, ast.AnnAssign) and not _is_text(below):
                    yield f"{path}: {node.name}.{ast.unparse(field.target)} has no docstring under it"


def raised_errors(tree: Tree) -> Iterator[str]:
    allowed = BUILTIN_ERRORS | _family(tree)
    for path, source in tree.items():
        for node in ast.walk(ast.parse(source)):
            if isinstance(node, ast.Raise) and node.exc:
                error = ast.unparse(node.exc.func if isinstance(node.exc, ast.Call) else node.exc)
                made_here = error.split(".")[-1][0].islower()  # a caught error, or a function that makes one
                if not (error in allowed or error.startswith("click.") or made_here):
                    yield f"{path} raises {error}"


CHECKS = [
    floor_plan,
    file_names,
    file_sizes,
    function_sizes,
    package_files,
    unsafe_loading,
    lazy_curation,
    config_fields,
    raised_errors,
]


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_the_rooms_keep_the_habit(check: Callable[[Tree], Iterator[str]]) -> None:
    assert list(check(rooms())) == []


def test_the_floor_plan_names_only_modules_that_exist() -> None:
    assert sorted(set(floors()) - {module_name(path) for path in rooms()}) == []


@pytest.mark.parametrize(
    ("check", "path", "source"),
    [
        (floor_plan, "sdk/imitrace/stray.py", ""),
        (floor_plan, "sdk/imitrace/semconv.py", "from imitrace.config import setting"),
        (floor_plan, "sdk/imitrace/semconv.py", "from imitrace import config"),
        (floor_plan, "sdk/imitrace/semconv.py", "def f():\n    import imitrace.config"),
        (floor_plan, "sdk/imitrace/config.py", "import imitrace_trainer.gate"),
        (floor_plan, "sdk/imitrace/config.py", "import imitrace"),
        (floor_plan, "trainer/imitrace_trainer/gate.py", "from imitrace_collector.store import Store"),
        (floor_plan, "collector/imitrace_collector/store.py", "from imitrace_trainer import gate"),
        (file_names, "sdk/imitrace/utils.py", ""),
        (file_sizes, "sdk/imitrace/config.py", "\n" * 401),
        (function_sizes, "sdk/imitrace/config.py", "def f():\n" + "    x = 1\n" * 51),
        (function_sizes, "sdk/imitrace/config.py", "class A:\n  async def f(self):\n    'Doc.'\n" + "    x = 1\n" * 51),
        (package_files, "sdk/imitrace/__init__.py", "x = 1"),
        (package_files, "sdk/imitrace/__init__.py", "def f(): ..."),
        (package_files, "sdk/imitrace/__init__.py", "import imitrace.config\n" * 60),
        (unsafe_loading, "sdk/imitrace/config.py", "import pickle"),
        (unsafe_loading, "sdk/imitrace/config.py", "def f():\n    from joblib import load"),
        (unsafe_loading, "sdk/imitrace/config.py", "import torch\ntorch.load('x')"),
        (unsafe_loading, "sdk/imitrace/config.py", "numpy.load('x', allow_pickle=True)"),
        (lazy_curation, CURATION, "def keep(rows):\n    return rows.collect()"),
        (lazy_curation, CURATION, "def keep(rows):\n    return pl.scan_parquet('x')"),
        (
            config_fields,
            "sdk/imitrace/config.py",
            "class AConfig:\n    'Doc.'\n    x: int = 1\n    y: int = 2\n    'Doc.'",
        ),
        (config_fields, "sdk/imitrace/config.py", "class AConfig:\n    x: int = 1"),
        (raised_errors, "sdk/imitrace/config.py", "raise NotImplementedError"),
        (raised_errors, "sdk/imitrace/config.py", "class MyError(Exception): ...\nraise MyError('x')"),
        (raised_errors, "sdk/imitrace/config.py", "raise http.HTTPException(500)"),
    ],
)
def test_each_check_finds_a_planted_violation(check: Callable[[Tree], Iterator[str]], path: str, source: str) -> None:
    (problem, *_) = check({path: source})
    assert problem.startswith(path)


@pytest.mark.parametrize(
    ("check", "path", "source"),
    [
        (floor_plan, "sdk/imitrace/config.py", "from imitrace import exceptions"),
        (floor_plan, "trainer/imitrace_trainer/gate.py", "import imitrace"),
        (function_sizes, "sdk/imitrace/config.py", "def f():\n    '''Doc.\n" + "\n" * 60 + "    '''\n    return 1"),
        (package_files, "sdk/imitrace/__init__.py", "'Doc.'\nimport imitrace.config\n__all__ = ['config']"),
        (unsafe_loading, "sdk/imitrace/config.py", "'never pickle, never torch.load'"),
        (raised_errors, "sdk/imitrace/exceptions.py", "class ImitraceError(Exception): ...\nraise ImitraceError"),
        (raised_errors, "sdk/imitrace/config.py", "try: ...\nexcept ValueError as error:\n    raise error\nraise"),
        (raised_errors, "sdk/imitrace/cli.py", "raise click.UsageError('x')"),
    ],
)
def test_no_check_objects_to_what_is_allowed(check: Callable[[Tree], Iterator[str]], path: str, source: str) -> None:
    assert list(check({path: source})) == []


def _lines(node: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    docstring = node.body[0] if _is_text(node.body[0]) else None
    return _span(node) - (_span(docstring) if docstring else 0)


def _span(node: ast.stmt) -> int:
    return (node.end_lineno or node.lineno) - node.lineno + 1


def _is_text(node: ast.stmt | None) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)


def _is_all(node: ast.stmt) -> bool:
    return isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__"


def _family(tree: Tree) -> set[str]:
    """Return ImitraceError and every class of the tree that descends from it."""
    classes = [
        node for source in tree.values() for node in ast.walk(ast.parse(source)) if isinstance(node, ast.ClassDef)
    ]
    family = {"ImitraceError"}
    while more := {node.name for node in classes if family & {ast.unparse(base) for base in node.bases}} - family:
        family |= more
    return family
