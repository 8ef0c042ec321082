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

/// CPU time of the server for one delivery, one stream or one channel, in microseconds.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Cost {
    pub cpu_us: f64,
    pub cpu_user_us: f64,
    pub cpu_kernel_us: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ratio_to_floor: Option<f64>,
}

impl Cost {
    /// What each of so many took of that.
    pub fn of(cpu: Cpu, count: u64) -> Option<Self> {
        let each = |time: std::time::Duration| time.as_secs_f64() * 1e6 / count as f64;
        (count > 0).then(|| Self {
            cpu_us: each(cpu.total()),
            cpu_user_us: each(cpu.user),
            cpu_kernel_us: each(cpu.kernel),
            ratio_to_floor: None,
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
    RATIO "of floor" |figures| figures.cpu?.ratio_to_floor.map(|ratio| format!("{ratio:.2}"));
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
