"""The one list of things that can be done here: `nox -l` shows it, plain `nox` does what CI does.

Most sessions run in the environment that nox itself runs in, which `pip install -e ".[dev]"`
prepares. Ray is large, and one installation serves them all; a virtual environment per session
would spend most of CI's time on unpacking. The sessions that need another installation, such as
`metrics`, `build` and `pythons`, have environments of their own.
"""

import shutil
import sys
import sysconfig
import tempfile
from pathlib import Path

import nox

nox.needs_version = ">=2024.10.9"
nox.options.default_venv_backend = "none"
nox.options.reuse_venv = "yes"
# The tests come last, so that their summary is what a reader sees at the end.
nox.options.sessions = ["lint", "types", "contracts", "docs", "metrics", "tests"]

PYTHONS = ["3.11", "3.12", "3.13"]
RAYS = ["2.59", "2.60"]
SPELLED = ["README.md", "CHANGELOG.md", "CONTRIBUTING.md", "docs", "pool"]
BESIDE = ["-n", "2", "--dist", "loadfile", "--no-loadscope-reorder"]
"""How all tests are run: two files at a time, for most of them wait more than they work.
Each of the two has a cluster of its own; the order stays that of the folders."""
TEST_ENV = {"RAY_AUTH_MODE": "disabled", "RAY_USAGE_STATS_ENABLED": "0"}


def run(session: nox.Session, program: str, *args: str) -> None:
    """Run a program installed beside nox, whether or not its environment is activated."""
    path = Path(sysconfig.get_path("scripts")) / program
    if not path.exists():
        session.error(f'{program} is not installed beside nox. Run: pip install -e ".[dev]"')
    session.run(str(path), *args, env=TEST_ENV, external=True)


@nox.session
def lint(session: nox.Session) -> None:
    """Check style and formatting (ruff). `nox -s lint -- --fix` repairs what it can."""
    fix = "--fix" in session.posargs
    run(session, "ruff", "check", *(["--fix"] if fix else []), ".")
    run(session, "ruff", "format", *([] if fix else ["--check"]), ".")


@nox.session
def types(session: nox.Session) -> None:
    """Check types twice: mypy in strict mode, and pyright."""
    run(session, "mypy")
    run(session, "pyright", "--pythonpath", sys.executable)


@nox.session
def contracts(session: nox.Session) -> None:
    """Check that each layer imports only downward (import-linter)."""
    run(session, "lint-imports")


@nox.session
def docs(session: nox.Session) -> None:
    """Build the documentation into docs/_build/html, and check its spelling.

    A warning is an error, and so is a link within the documentation that leads nowhere.
    """
    run(session, "codespell", *SPELLED)
    run(session, "sphinx-build", "-W", "-n", "--keep-going", "-q", "docs", "docs/_build/html")


@nox.session(venv_backend="venv", reuse_venv=True)
def metrics(session: nox.Session) -> None:
    """Check metrics against a real Prometheus: with Ray's agents, so in an environment of its own.

    What `ray[default]` brings starts further processes on each node, in all other tests too.
    """
    if shutil.which("prometheus") is None:
        session.skip("there is no Prometheus here")
    session.install("-e", ".[test]", "ray[default]", silent=True)
    session.run("pytest", "tests/cluster/test_metrics.py", *session.posargs, env=TEST_ENV)


@nox.session
def tests(session: nox.Session) -> None:
    """Run all tests. `nox -s tests -- tests/planning -k drain` runs some."""
    run(session, "pytest", *(session.posargs or BESIDE))


@nox.session(name="property")
def property_(session: nox.Session) -> None:
    """Search for counterexamples at length: the property tests, with hypothesis's long profile."""
    run(session, "pytest", "--hypothesis-profile=long", *(session.posargs or ["tests/planning"]))


@nox.session
def simulate(session: nox.Session) -> None:
    """Play the pool in simulation, faults from seeds: `nox -s simulate -- --seeds 200`."""
    run(session, "pytest", "tests/simulation", *(session.posargs or ["--seeds", "50"]))


@nox.session
def soak(session: nox.Session) -> None:
    """Throw random faults at pools on a real Ray: `nox -s soak -- --minutes 20 --seed 7`."""
    run(session, "python", "-m", "tests.soak", *session.posargs)


@nox.session
def bench(session: nox.Session) -> None:
    """Measure, print tables, write JSON. `-- --quick` only proves that each scenario runs."""
    names = ("planning", "simulation", "scale", "window", "placement")
    for scenario in (*names, "supervision", "workers", "footprint", "dispatch", "slurm"):
        run(session, "python", "-m", f"benchmarks.{scenario}", *session.posargs)


@nox.session(venv_backend="venv", reuse_venv=True)
def peers(session: nox.Session) -> None:
    """Measure beside eFormer and Ray Serve, installed in an environment of their own."""
    session.install("-e", ".[peers]")
    session.install("--no-deps", "eformer>=0.0.101")  # the part that runs here needs none of them
    session.run("python", "-m", "benchmarks.peers", *session.posargs, env=TEST_ENV)
    session.run("python", "-m", "benchmarks.dispatch", *session.posargs, env=TEST_ENV)


@nox.session
def plots(session: nox.Session) -> None:
    """Draw what is in benchmarks/results, as SVG into docs/explanation/plots."""
    run(session, "python", "-m", "benchmarks.plots")


@nox.session
def kills(session: nox.Session) -> None:
    """Map 100,000 items while a member is killed each five seconds, and count what comes out."""
    run(session, "python", "-m", "benchmarks.dispatch", "--rounds", "1", "--killed", "100000")


@nox.session
def coverage(session: nox.Session) -> None:
    """Measure how much of the planning layer its own tests cover, branches included."""
    run(session, "coverage", "run", "-m", "pytest", "-q", "tests/planning")
    run(session, "coverage", "report")


@nox.session
def demo(session: nox.Session) -> None:
    """Run `pool demo --json`: an embedded cluster, a real job, injected faults."""
    run(session, "pool", "demo", "--json", *session.posargs)


@nox.session
def record(session: nox.Session) -> None:
    """Run `pool demo` on a terminal, and draw what it shows there: docs/demo.svg."""
    run(session, "python", "-m", "benchmarks.recording")


@nox.session(python=PYTHONS, venv_backend="venv")
def pythons(session: nox.Session) -> None:
    """Run all tests on each supported Python, each in an environment of its own."""
    session.install("-e", ".[test]")
    session.run("pytest", *(session.posargs or BESIDE), env=TEST_ENV)


@nox.session(venv_backend="venv", reuse_venv=True)
@nox.parametrize("ray", RAYS)
def rays(session: nox.Session, ray: str) -> None:
    """Run the tests on a real Ray with the oldest supported version and the newest one."""
    session.install("-e", ".[test]", f"ray=={ray}.*")
    some = [*BESIDE, "tests/cluster", "tests/chaos"]
    session.run("pytest", *(session.posargs or some), env=TEST_ENV)


@nox.session(venv_backend="venv", reuse_venv=True)
def audit(session: nox.Session) -> None:
    """Write dist/sbom.json (CycloneDX) of what users install, and look for known weaknesses in it.

    What cannot be looked up, for want of a way to the database, counts as a failure.
    """
    session.install(".")
    tools = session.create_tmp()
    session.run("python", "-m", "venv", tools)
    session.run(f"{tools}/bin/pip", "install", "-q", "cyclonedx-bom", "pip-audit", external=True)
    Path("dist").mkdir(exist_ok=True)
    python = shutil.which("python", path=session.bin) or "python"
    session.run(
        f"{tools}/bin/cyclonedx-py", "environment", python, "-o", "dist/sbom.json", external=True
    )
    [packages] = Path(session.virtualenv.location).glob("lib/python3*/site-packages")
    session.run(f"{tools}/bin/pip-audit", "--strict", "--path", str(packages), external=True)


@nox.session(venv_backend="venv", reuse_venv=False)
def build(session: nox.Session) -> None:
    """Build sdist and wheel into dist/, then try the wheel in a clean environment."""
    shutil.rmtree("dist", ignore_errors=True)
    run(session, "pyproject-build", "--outdir", "dist")
    [wheel] = Path("dist").resolve().glob("*.whl")
    session.install(str(wheel))
    with tempfile.TemporaryDirectory() as elsewhere, session.chdir(elsewhere):
        session.run("python", "-c", "import pool; print(pool.__file__)", env=TEST_ENV)
        session.run("pool", "--help", env=TEST_ENV)
