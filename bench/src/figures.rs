//! What a load measures, and what of it makes a table.

use fanfare_load::{Faults, Quantiles, Report};
use serde::Serialize;

use crate::process::Cpu;

/// What a load measured of a contender. `README.md` says what each is.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Figures {
    pub streams: usize,
    pub channels: usize,
    pub seconds: f64,
    pub deliveries: u64,
    pub deliveries_per_second: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub streams_per_second: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub channels_per_second: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bytes_per_second: Option<u64>,
    pub server_cpu_seconds: f64,
    pub client_cpu_seconds: f64,
    #[serde(flatten)]
    pub cpu: Option<Cost>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub latency_us: Option<Quantiles>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub latency_before_us: Option<Quantiles>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bytes_per_stream: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub idle_cpu_ms_per_second: Option<f64>,
    #[serde(flatten)]
    pub forgotten: Option<Forgotten>,
    #[serde(flatten)]
    pub growth: Option<Growth>,
    #[serde(flatten)]
    pub answered: Option<Answered>,
    #[serde(flatten)]
    pub parked: Option<Parked>,
    #[serde(flatten)]
    pub repeated: Option<Repeated>,
    #[serde(flatten)]
    pub deployed: Option<Deployed>,
    #[serde(flatten)]
    pub faults: Faults,
    pub closed: u64,
    pub failed: u64,
}

/// What channels took that nobody hears any more.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Forgotten {
    pub channels_at_peak: u64,
    pub bytes_per_channel: u64,
    pub left_over_bytes: i64,
}

/// How memory went while streams came and left.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Growth {
    pub streams_in_all: u64,
    pub quarter_bytes: u64,
    pub end_bytes: u64,
    pub growth_percent: f64,
}

/// Requests that a handler answers at once.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Answered {
    pub requests: u64,
    pub requests_per_second: u64,
    /// These, divided by those of the yardstick.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rate_ratio: Option<f64>,
}

/// Handlers that wait.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Parked {
    pub handlers: usize,
    pub bytes_per_handler: i64,
}

/// Publishing as often as it goes.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Repeated {
    pub events: u64,
    pub ns_per_event: f64,
    /// What is over that of the yardstick.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ns_over_native: Option<f64>,
}

/// New code while streams are open.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Deployed {
    pub deploys: usize,
    /// The slowest of them, from the first byte sent to the answer.
    pub deploy_ms: f64,
}

/// CPU time of the server for one delivery, one stream, one channel or one request, in microseconds.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Cost {
    pub cpu_us: f64,
    pub cpu_user_us: f64,
    pub cpu_kernel_us: f64,
    /// `cpu_us`, divided by that of the yardstick.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu_ratio: Option<f64>,
}

impl Cost {
    /// What each of so many took of that.
    pub fn of(cpu: Cpu, count: u64) -> Option<Self> {
        let each = |time: std::time::Duration| time.as_secs_f64() * 1e6 / count as f64;
        (count > 0).then(|| Self {
            cpu_us: each(cpu.total()),
            cpu_user_us: each(cpu.user),
            cpu_kernel_us: each(cpu.kernel),
            cpu_ratio: None,
        })
    }
}

impl Figures {
    /// What a report says.
    pub fn of(report: &Report, seconds: f64) -> Self {
        Self {
            streams: report.streams,
            channels: 1,
            seconds,
            deliveries: report.payloads,
            deliveries_per_second: per_second(report.payloads, seconds),
            faults: report.faults,
            closed: report.closed,
            failed: report.failures(),
            ..Self::default()
        }
    }

    /// Compares it with the yardstick, which it may be itself.
    pub fn compare(&mut self, yardstick: Option<&Self>, is_itself: bool) {
        let own = self.clone();
        let Some(yardstick) = yardstick.or(is_itself.then_some(&own)) else {
            return;
        };
        if let (Some(cost), Some(other)) = (&mut self.cpu, yardstick.cpu) {
            // A short load may take no tick of the clock.
            let ratio = cost.cpu_us / other.cpu_us;
            cost.cpu_ratio = ratio.is_finite().then_some(ratio);
        }
        if let (Some(answered), Some(other)) = (&mut self.answered, yardstick.answered) {
            let ratio = answered.requests_per_second as f64 / other.requests_per_second as f64;
            answered.rate_ratio = ratio.is_finite().then_some(ratio);
        }
        if let (Some(repeated), Some(other)) = (&mut self.repeated, yardstick.repeated) {
            repeated.ns_over_native = Some(repeated.ns_per_event - other.ns_per_event);
        }
    }

    /// Whether everything came as it was published.
    pub fn is_clean(&self) -> bool {
        self.faults.is_none() && self.closed == 0 && self.failed == 0
    }
}

/// How many come in a second.
pub fn per_second(count: u64, seconds: f64) -> u64 {
    (count as f64 / seconds.max(1e-9)).round() as u64
}

/// A column of a table.
#[derive(Clone, Copy)]
pub struct Column {
    /// Its head.
    pub title: &'static str,
    /// What stands there, if anything does.
    pub value: fn(&Figures) -> Option<String>,
}

macro_rules! columns {
    ($($name:ident $title:literal |$figures:ident| $value:expr;)*) => {
        $(pub const $name: Column = Column { title: $title, value: |$figures| $value };)*
    };
}

columns! {
    STREAMS "streams" |figures| Some(figures.streams.to_string());
    CPU "CPU µs" |figures| figures.cpu.map(|cost| format!("{:.2}", cost.cpu_us));
    USER "user" |figures| figures.cpu.map(|cost| format!("{:.2}", cost.cpu_user_us));
    KERNEL "kernel" |figures| figures.cpu.map(|cost| format!("{:.2}", cost.cpu_kernel_us));
    RATIO "of floor" |figures| figures.cpu?.cpu_ratio.map(|ratio| format!("{ratio:.2}"));
    P50 "p50 ms" |figures| figures.latency_us.map(|times| ms(times.p50));
    P99 "p99 ms" |figures| figures.latency_us.map(|times| ms(times.p99));
    MAX "max ms" |figures| figures.latency_us.map(|times| ms(times.max));
    P99_BEFORE "p99 ms before" |figures| figures.latency_before_us.map(|times| ms(times.p99));
    DELIVERIES "deliveries/s" |figures| Some(figures.deliveries_per_second.to_string());
    STREAM_RATE "streams/s" |figures| figures.streams_per_second.map(|rate| rate.to_string());
    BYTE_RATE "MB/s" |figures| figures.bytes_per_second.map(|rate| format!("{:.1}", rate as f64 / 1e6));
    MEMORY "bytes/stream" |figures| figures.bytes_per_stream.map(|bytes| bytes.to_string());
    IDLE "idle CPU ms/s" |figures| figures.idle_cpu_ms_per_second.map(|ms| format!("{ms:.2}"));
    AT_PEAK "channels at peak" |figures| figures.forgotten.map(|forgotten| forgotten.channels_at_peak.to_string());
    PER_CHANNEL "bytes/channel" |figures| figures.forgotten.map(|forgotten| forgotten.bytes_per_channel.to_string());
    LEFT_OVER "left over MB" |figures| figures.forgotten.map(|forgotten| mb(forgotten.left_over_bytes));
    CHANNEL_RATE "channels/s" |figures| figures.channels_per_second.map(|rate| rate.to_string());
    IN_ALL "streams in all" |figures| figures.growth.map(|growth| growth.streams_in_all.to_string());
    AT_QUARTER "MB at 1/4" |figures| figures.growth.map(|growth| mb(growth.quarter_bytes as i64));
    AT_END "MB at the end" |figures| figures.growth.map(|growth| mb(growth.end_bytes as i64));
    GROWTH "growth %" |figures| figures.growth.map(|growth| format!("{:+.1}", growth.growth_percent));
    RATE "requests/s" |figures| figures.answered.map(|answered| answered.requests_per_second.to_string());
    RATE_RATIO "of axum" |figures| figures.answered?.rate_ratio.map(|ratio| format!("{ratio:.2}"));
    CPU_RATIO "CPU of axum" |figures| figures.cpu?.cpu_ratio.map(|ratio| format!("{ratio:.2}"));
    FAILED "failed" |figures| Some(figures.failed.to_string());
    HANDLERS "handlers" |figures| figures.parked.map(|parked| parked.handlers.to_string());
    PER_HANDLER "bytes/handler" |figures| figures.parked.map(|parked| parked.bytes_per_handler.to_string());
    LATE_P50 "late p50 ms" |figures| figures.latency_us.map(|times| ms(times.p50));
    LATE_P99 "late p99 ms" |figures| figures.latency_us.map(|times| ms(times.p99));
    LATE_MAX "late max ms" |figures| figures.latency_us.map(|times| ms(times.max));
    PER_EVENT "ns/publish" |figures| figures.repeated.map(|repeated| format!("{:.0}", repeated.ns_per_event));
    OVER_NATIVE "over native" |figures| figures.repeated?.ns_over_native.map(|ns| format!("{ns:+.0}"));
    DEPLOYS "deploys" |figures| figures.deployed.map(|deployed| deployed.deploys.to_string());
    DEPLOY "slowest ms" |figures| figures.deployed.map(|deployed| format!("{:.0}", deployed.deploy_ms));
    LOST "lost" |figures| Some(figures.faults.lost.to_string());
    WRONG "dup/order/corrupt" |figures| Some(format!(
        "{}/{}/{}",
        figures.faults.duplicated, figures.faults.reordered, figures.faults.corrupt
    ));
    CLOSED "closed" |figures| Some((figures.closed + figures.failed).to_string());
}

fn mb(bytes: i64) -> String {
    format!("{:.2}", bytes as f64 / 1e6)
}

/// What a table of deliveries shows.
pub const DELIVERY: &[Column] = &[
    CPU, USER, KERNEL, RATIO, P50, P99, MAX, DELIVERIES, LOST, WRONG, CLOSED,
];

fn ms(us: u64) -> String {
    format!("{:.2}", us as f64 / 1000.0)
}
