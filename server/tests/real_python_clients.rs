//! Python clients against a running server: an OpenTelemetry SDK that sends metrics over HTTP, InfluxDB's client that
//! sends line protocol, and prometheus-api-client that asks.
//!
//! The packages are installed once into a virtual environment below `target/clients`. Skips loudly where python or the
//! packages cannot be had.

mod house;

use house::real::{python, run_python};
use house::{batch, directory, now_ms, start};

const OPENTELEMETRY: &str = r#"
import sys
from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.exporter.otlp.proto.http import Compression
from opentelemetry.metrics import Observation
from opentelemetry.sdk.metrics import Counter, Histogram, MeterProvider, UpDownCounter
from opentelemetry.sdk.metrics.export import AggregationTemporality, MetricExportResult, PeriodicExportingMetricReader
from opentelemetry.sdk.metrics.view import ExponentialBucketHistogramAggregation, View
from opentelemetry.sdk.resources import Resource

url, path, prefix, temporality = sys.argv[1:5]
wanted = {} if temporality == "cumulative" else {
    kind: AggregationTemporality.DELTA for kind in (Counter, Histogram)}
compression = Compression.Gzip if path == "/v1/metrics" else Compression.NoCompression

failures = []
class Exporter(OTLPMetricExporter):
    def export(self, *args, **kwargs):
        result = super().export(*args, **kwargs)
        if result is not MetricExportResult.SUCCESS:
            failures.append(result)
        return result

exporter = Exporter(endpoint=url + path, preferred_temporality=wanted, compression=compression, timeout=10)
reader = PeriodicExportingMetricReader(exporter, export_interval_millis=3_600_000)
resource = Resource({"service.name": "shop", "service.namespace": "eu", "service.instance.id": prefix, "zone": "a"})
provider = MeterProvider(metric_readers=[reader], resource=resource, views=[
    View(instrument_name=prefix + ".size", aggregation=ExponentialBucketHistogramAggregation(max_size=40))])
meter = provider.get_meter("test", "1.0")
orders = meter.create_counter(prefix + ".orders", description="Orders taken.")
stock = meter.create_up_down_counter(prefix + ".stock")
latency = meter.create_histogram(prefix + ".latency", unit="s", explicit_bucket_boundaries_advisory=[0.1, 1.0])
size = meter.create_histogram(prefix + ".size", unit="By")
temperature = meter.create_observable_gauge(prefix + ".temperature", callbacks=[
    lambda options: [Observation(21.5, {"room": "cold store"})]])
for round in range(3):
    orders.add(5, {"payment.method": "card"})
    stock.add(-2)
    for value in (0.05, 0.5, 5.0):
        latency.record(value)
    for value in (1.0, 2.0, 4.0, 1000.0):
        size.record(value)
    provider.force_flush()
provider.shutdown()
assert not failures, failures
"#;

#[test]
fn metrics_of_an_opentelemetry_sdk_arrive() {
    let packages = ["opentelemetry-sdk==1.45.2", "opentelemetry-exporter-otlp-proto-http==1.45.2"];
    let Some(python) = python("opentelemetry", &packages) else { return };
    let dir = directory();
    let house = start(dir.path(), &[]);
    for (path, prefix, temporality) in [
        ("/api/v1/otlp/v1/metrics", "a", "cumulative"),
        ("/v1/metrics", "b", "cumulative"),
        ("/v1/metrics", "c", "delta"),
    ] {
        run_python(&python, &house, OPENTELEMETRY, &[path, prefix, temporality]);
        let at = now_ms();
        let value = |query: &str| {
            let data = house.query(query, at);
            let value = data["result"][0]["value"][1].as_str().map(str::to_owned);
            value.unwrap_or_else(|| panic!("{prefix} {temporality}: {query}: {data}"))
        };
        let of = |query: &str| value(&query.replace('~', prefix));
        if temporality == "cumulative" {
            assert_eq!(of("~_orders_total{payment_method=\"card\",job=\"eu/shop\",instance=\"~\"}"), "15");
            assert_eq!(of("~_latency_seconds_bucket{le=\"1.0\"} or ~_latency_seconds_bucket{le=\"1\"}"), "6");
            assert_eq!(of("~_latency_seconds_count"), "9");
            assert_eq!(of("histogram_count(~_size_bytes)"), "12");
            assert_eq!(of("histogram_sum(~_size_bytes)"), "3021");
        }
        assert_eq!(of("~_stock"), "-6");
        assert_eq!(of("~_temperature{room=\"cold store\"}"), "21.5");
        assert_eq!(of("target_info{zone=\"a\",job=\"eu/shop\",instance=\"~\"}"), "1");
    }
    let metadata = house.get("/api/v1/metadata?metric=a_orders_total").json();
    assert_eq!(metadata["data"]["a_orders_total"][0]["help"], "Orders taken.", "{metadata}");
}

const INFLUX: &str = r#"
import sys, time
from influxdb_client import InfluxDBClient, Point, WritePrecision
from influxdb_client.client.write_api import SYNCHRONOUS

now = int(sys.argv[2])
with InfluxDBClient(url=sys.argv[1], token="any", org="org", enable_gzip=len(sys.argv) > 3) as client:
    write = client.write_api(write_options=SYNCHRONOUS)
    points = [
        Point("cpu").tag("host", "a b").tag("core", str(core)).field("usage", 1.5 + core).field("count", 7)
        .field("on", True).time(now - 1000 * core, WritePrecision.MS)
        for core in range(3)]
    write.write(bucket="metrics", record=points, write_precision=WritePrecision.MS)
    write.write(bucket="metrics", record=f"weather,place=here celsius=21.25 {now * 1000000}")
    write.write(bucket="metrics", record={
        "measurement": "weather", "tags": {"place": "there"}, "fields": {"celsius": -3}, "time": now}, write_precision="ms")
"#;

#[test]
fn points_of_the_influxdb_client_arrive() {
    let Some(python) = python("influxdb", &["influxdb-client==1.50.0"]) else { return };
    let dir = directory();
    let house = start(dir.path(), &[]);
    let now = now_ms();
    for gzip in [&[][..], &["gzip"]] {
        run_python(&python, &house, INFLUX, &[&[now.to_string().as_str()], gzip].concat());
        let samples = |selector: &str| house.samples(selector, "1m", now + 10);
        assert_eq!(samples("cpu_usage{host=\"a b\",core=\"2\"}"), [(now - 2000, 3.5)]);
        assert_eq!(samples("cpu_count{core=\"0\"}"), [(now, 7.0)]);
        assert_eq!(samples("cpu_on{core=\"1\"}"), [(now - 1000, 1.0)]);
        assert_eq!(samples("weather_celsius{place=\"here\"}"), [(now, 21.25)]);
        assert_eq!(samples("weather_celsius{place=\"there\"}"), [(now, -3.0)]);
    }
}

const API_CLIENT: &str = r#"
import sys
from datetime import datetime
from prometheus_api_client import PrometheusConnect

end = int(sys.argv[2]) / 1000
client = PrometheusConnect(url=sys.argv[1], disable_ssl=True)
assert client.check_prometheus_connection()
assert "up" in client.all_metrics(), client.all_metrics()
assert client.get_label_names() == ["__name__", "instance", "job"], client.get_label_names()
assert client.get_label_values("job") == ["a", "b"]
assert client.get_series(start=datetime.fromtimestamp(end - 600), end=datetime.fromtimestamp(end), params={"match[]": "up"})
current = client.get_current_metric_value("up", {"job": "a"}, params={"time": end})
assert [float(found["value"][1]) for found in current] == [1, 1], current
# An instant query whose answer is a matrix; the left edge of its window is open.
ranges = client.get_metric_range_data("requests", label_config={"job": "b"},
    start_time=datetime.fromtimestamp(end - 600), end_time=datetime.fromtimestamp(end))
assert len(ranges) == 1 and len(ranges[0]["values"]) == 40, ranges
answer = client.custom_query("sum(up)", params={"time": end})
assert answer[0]["value"][1] == "4", answer
answer = client.custom_query_range("rate(requests[1m])",
    start_time=datetime.fromtimestamp(end - 300), end_time=datetime.fromtimestamp(end), step="30s")
assert len(answer[0]["values"]) == 11 and abs(float(answer[0]["values"][0][1]) - 2) < 1e-9, answer
sums = client.get_metric_aggregation("requests", ["sum", "max", "percentile_50"],
    start_time=datetime.fromtimestamp(end - 600), end_time=datetime.fromtimestamp(end), step="15")
assert sums and sums["max"] == 1200, sums
metadata = client.get_metric_metadata("requests")
assert isinstance(metadata, list)
assert client.get_targets() is not None and client.get_scrape_pools() is not None
try:
    client.custom_query("rate(up)")
    raise SystemExit("an error was expected")
except Exception as error:
    assert "400" in str(error) and "expected type range vector" in str(error), error
"#;

#[test]
fn prometheus_api_client_is_answered() {
    let Some(python) = python("prometheus-api", &["prometheus-api-client==0.7.2", "numpy"]) else { return };
    let dir = directory();
    let house = start(dir.path(), &[]);
    let end = now_ms() / 15_000 * 15_000;
    let up: Vec<(i64, f64)> = (0..=40).map(|i| (end - 600_000 + i * 15_000, 1.0)).collect();
    let requests: Vec<(i64, f64)> = up.iter().zip(0..).map(|((time, _), i)| (*time, f64::from(i) * 30.0)).collect();
    for job in ["a", "b"] {
        for instance in ["x", "y"] {
            house.write(&batch(&[(&[("__name__", "up"), ("job", job), ("instance", instance)], &up)]));
        }
        house.write(&batch(&[(&[("__name__", "requests"), ("job", job)], &requests)]));
    }
    run_python(&python, &house, API_CLIENT, &[&end.to_string()]);
}
