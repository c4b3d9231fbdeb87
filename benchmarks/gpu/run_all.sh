#!/usr/bin/env bash
# The calls, in order: `bash benchmarks/gpu/run_all.sh STEP...`. Each ends within 10 minutes and brings its JSON back in $OUT.
# Each takes in the piece that it carries (benchmarks/gpu/carry/pieces/N); README.md has the list.
set -u
[ $# -gt 0 ] || { echo "give steps: see benchmarks/gpu/README.md"; exit 2; }
. benchmarks/gpu/setup.sh
check=${CHECK:+--check}
out="--out $RESULTS"
code=0
for step in "$@"; do
    case "$step" in
        take)      : ;;
        ceilings)  python3 -m benchmarks.gpu.ceilings $check $CARRIED $out ;;
        depthwise) python3 -m benchmarks.gpu.depthwise $check $out ;;
        inference) python3 -m benchmarks.gpu.inference $check $CARRIED $out --limit-s "${LIMIT_S:-560}" ${OPTIONS:-} ;;
        training)  python3 -m benchmarks.gpu.training $check $out --limit-s "${LIMIT_S:-420}" ${OPTIONS:-} ;;
        study)     python3 -m benchmarks.gpu.study $check $out --limit-s "${LIMIT_S:-560}" ${OPTIONS:-} ;;
        product)   python3 -m benchmarks.gpu.product $check $out ;;
        best)      python3 -m benchmarks.gpu.best $check $out --limit-s "${LIMIT_S:-240}" ${OPTIONS:-} ;;
        *)         echo "no step $step: take, ceilings, depthwise, inference, training, study, product, best"; false ;;
    esac || code=$?
    echo "== $step ended with $code after $SECONDS s"
done
deliver
exit $code
