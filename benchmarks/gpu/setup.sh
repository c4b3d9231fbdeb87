# Sourced on the GPU machine at the start of every call: `. benchmarks/gpu/setup.sh`. Takes in the piece this call carries, joins what is whole,
# and sets the paths. Repeating it does no harm.
PLACE=${PLACE:-/tmp/cellclf-gpu}
HERE=benchmarks/gpu
mkdir -p "$PLACE/pieces" "$PLACE/site"
for piece in "$HERE"/carry/pieces/*/*; do [ -f "$piece" ] && cp "$piece" "$PLACE/pieces/"; done

# join NAME: NAME.tar.xz of its pieces once all are there, unpacked once.
join() {
    [ -e "$PLACE/$1.done" ] && return 0
    set -- "$1" "$PLACE/pieces/$1".tar.xz.*-of-*
    [ -e "$2" ] || return 1
    [ "$(($# - 1))" -eq "$((10#${2##*-of-}))" ] || { echo "$1: $(($# - 1)) of ${2##*-of-} pieces are here"; return 1; }
    name=$1; shift
    cat "$@" | python3 -c 'import sys, tarfile; tarfile.open(fileobj=sys.stdin.buffer, mode="r|xz").extractall(sys.argv[1], filter="data")' "$PLACE" \
        && rm "$@" && touch "$PLACE/$name.done"
}

if join base && [ ! -e "$PLACE/base.installed" ]; then
    python3 -m pip install --quiet --no-index --no-deps --no-compile --no-cache-dir --target "$PLACE/site" "$PLACE"/wheels/*.whl \
        && touch "$PLACE/base.installed"
fi
join onnxruntime
# The families of the images were found where the data were packed; here they are only read.
if join data && [ ! -e "$PLACE/cache/families" ]; then mkdir -p "$PLACE/cache" && cp -r "$PLACE/data/families" "$PLACE/cache/"; fi

# CUDA's libraries are pip packages there; ONNX Runtime lies elsewhere and would not look among them.
LIBRARIES=$(python3 - <<'PYTHON'
import importlib.util, pathlib
roots = [pathlib.Path(path) for path in (importlib.util.find_spec("nvidia") or type("", (), {"submodule_search_locations": []})).submodule_search_locations]
print(":".join(str(path) for root in roots for path in sorted(root.glob("*/lib"))))
PYTHON
)
export LD_LIBRARY_PATH="$LIBRARIES${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}"
# ONNX Runtime before the site-packages' own, which is for CPUs.
export PYTHONPATH="$PLACE/onnxruntime:$PLACE/site:$PWD" PYTHONUNBUFFERED=1 KERAS_BACKEND=jax ORT_DISABLE_TELEMETRY=1
export CELLCLF_DATA="$PLACE/data" CELLCLF_CACHE="$PLACE/cache" CELLCLF_WEIGHTS="$PLACE/weights"
CARRIED="--carry $PLACE"
# Figures of earlier calls, so that a script goes on where it was stopped; $OUT is emptied before every call.
RESULTS="$PLACE/results"
mkdir -p "$RESULTS"
[ -e "$RESULTS/depthwise.txt" ] && export CELLCLF_GPU_DEPTHWISE="$(cat "$RESULTS/depthwise.txt")"
touch "$PLACE/began"
# What this call made: at most eight files come back.
deliver() {
    [ -n "${OUT:-}" ] && find "$RESULTS" -maxdepth 1 -newer "$PLACE/began" \( -name '*.json' -o -name '*.tar.gz' \) -exec cp {} "$OUT/" \;
    [ -n "${OUT:-}" ] && tail -n 60 "$RESULTS"/*.log "$RESULTS"/*/*.log /tmp/gpu-study/*/*.log > "$OUT/logs.txt" 2>/dev/null
    nvidia-smi --query-gpu=name,clocks.sm,power.draw,temperature.gpu --format=csv
}
