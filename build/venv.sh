# Sourced by the build scripts: `$python` checked, and build/work/venv with the packages of requirements.txt.
python=${PYTHON:-python3}
"$python" -c 'import tkinter' || { echo "$python has no tkinter (package python3-tk)" >&2; exit 1; }
pip=("$python" -m pip --python build/work/venv/bin/python) own=(--without-pip)  # one of its own takes 6 s
"$python" -m pip --version > /dev/null 2>&1 || pip=(build/work/venv/bin/pip) own=()
mkdir -p build/work
if ! cmp -s build/requirements.txt build/work/installed; then
    "$python" -m venv --clear "${own[@]}" build/work/venv
    # uv installs the rest in a third of pip's time
    awk '/^uv==/ { on = 1 } on { print } on && !/\\$/ { exit }' build/requirements.txt > build/work/uv.txt
    "${pip[@]}" install -q --require-hashes -r build/work/uv.txt
    build/work/venv/bin/uv pip install -q --python build/work/venv/bin/python --require-hashes -r build/requirements.txt
    cp build/requirements.txt build/work/installed
fi
# The same source gives the same bytes: a fixed time and a fixed order of hashes.
SOURCE_DATE_EPOCH=$(git log -1 --format=%ct 2>/dev/null || echo 0)
# Level 9, the usual one, takes twice the time of 6 for three bytes in a thousand.
export SOURCE_DATE_EPOCH PYTHONHASHSEED=1 PYINSTALLER_ZLIB_COMPRESSION_LEVEL=${PYINSTALLER_ZLIB_COMPRESSION_LEVEL:-6}
