#!/usr/bin/env bash
# The Linux executables, build/dist/connectsphere (one file) and build/dist/connectsphere-folder (starts faster), a
# smoke test of both, then the folder as build/dist/connectsphere-VERSION-linux.tar.gz. Needs a Python 3.11 or newer
# with tkinter, and what PyAudio is compiled with:
#   apt-get install python3-venv python3-dev python3-tk gcc libc6-dev portaudio19-dev
# For the smoke test, what the README's test line installs.
# usage: [PYTHON=python3] build/linux.sh [--no-smoke] [--no-archive]
set -euo pipefail
cd "$(dirname "$0")/.."
. build/venv.sh
programs=(build/dist/connectsphere build/dist/connectsphere-folder/connectsphere)
rm -rf build/dist/connectsphere build/dist/connectsphere-folder
build/work/venv/bin/pyinstaller --noconfirm --log-level ERROR \
    --distpath build/dist --workpath build/work/linux build/pyinstaller.spec
(cd build/dist && ls -l connectsphere && sha256sum connectsphere && du -sm connectsphere-folder)
if [[ " $* " != *" --no-smoke "* ]]; then
    build/work/venv/bin/python build/smoke.py "${programs[@]}"
fi
if [[ " $* " != *" --no-archive "* ]]; then
    archive=build/dist/connectsphere-$(${programs[1]} --version | awk '{print $NF}')-linux.tar.gz
    tar --sort=name --mtime="@$SOURCE_DATE_EPOCH" --owner=0 --group=0 -C build/dist -cf - connectsphere-folder |
        gzip -6n > "$archive"
    ls -l "$archive" && sha256sum "$archive"
fi
