#!/usr/bin/env bash
# Varve beside Debian's prometheus and victoria-metrics in one run, on this machine: each starts on an empty folder,
# takes the same samples by remote write, answers the same queries; then its folder is measured.
#   benches/compare.sh [HOSTS] [HOURS]        (default 200 6: 100 000 series, 144 M samples)
set -euo pipefail
cd "$(dirname "$0")/.."
hosts=${1:-200} hours=${2:-6}
cargo build --release --bin varve --bin drive -p varve-server -p varve-benches
bin=$PWD/${CARGO_TARGET_DIR:-target}/release
work=$(mktemp -d)
pid=
trap '[ -z "$pid" ] || kill "$pid" 2>/dev/null; rm -rf "$work"' EXIT
printf 'global: {scrape_interval: 1h}\n' >"$work/prometheus.yml"

run() { # name, port, ready path, flush request, command…
  local name=$1 port=$2 ready=$3 flush=$4
  shift 4
  command -v "$1" >/dev/null || { echo "!!! SKIPPED: $1 is not installed"; return; }
  echo "== $name: $("$1" --version 2>&1 | head -1)"
  "$@" >"$work/$name.log" 2>&1 &
  pid=$!
  until curl -fs -o /dev/null "http://127.0.0.1:$port$ready"; do sleep 0.1; done
  "$bin/drive" ingest --url "http://127.0.0.1:$port" --pid $pid --hosts "$hosts" --hours "$hours"
  [ -z "$flush" ] || curl -fs -o /dev/null $flush
  sleep 15
  local bytes
  bytes=$(du -sb "$work/$name" | cut -f1)
  awk -v b="$bytes" -v n="$((hosts * 500 * hours * 240))" 'BEGIN { printf "folder               %.3f bytes a sample\n", b / n }'
  "$bin/drive" query --url "http://127.0.0.1:$port" --pid $pid
  kill $pid
  wait $pid || true
  pid=
}

grep -m1 'model name' /proc/cpuinfo || true
run varve 18278 /-/ready "-X POST http://127.0.0.1:18278/-/flush" \
  "$bin/varve" serve --data-dir "$work/varve" --listen 127.0.0.1:18278 --self-scrape false
run victoria-metrics 18428 /health "http://127.0.0.1:18428/internal/force_merge" \
  victoria-metrics -storageDataPath="$work/victoria-metrics" -httpListenAddr=127.0.0.1:18428 -retentionPeriod=100y
run prometheus 19090 /-/ready "" \
  prometheus --config.file="$work/prometheus.yml" --storage.tsdb.path="$work/prometheus" \
  --web.listen-address=127.0.0.1:19090 --web.enable-remote-write-receiver --storage.tsdb.retention.time=10y
