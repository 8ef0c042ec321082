//! What was measured.

use std::{collections::BTreeMap, fmt, time::Duration};

use hdrhistogram::Histogram;
use serde::Serialize;

use crate::sequence::Faults;

/// The longest time that is told from longer ones, in microseconds: five minutes.
const LONGEST: u64 = 300_000_000;

/// What was measured since the start, or the last reset; what went wrong (`closed`, `failed`, `faults`), since the start.
/// Times in histograms are microseconds.
#[derive(Clone, Debug)]
pub struct Report {
    /// How long it was measured.
    pub elapsed: Duration,
    /// How many streams were to be open.
    pub streams: usize,
    /// How many were, at the end.
    pub open: usize,
    /// How many opened; one that came back counts again.
    pub opened: u64,
    /// How many of these came back after an end.
    pub returned: u64,
    /// How many left by plan.
    pub left: u64,
    /// How many were ended by their server, or on the way.
    pub closed: u64,
    /// How many could not be opened, by the reason.
    pub failed: BTreeMap<String, u64>,
    /// Events that came, without those of a type to skip.
    pub events: u64,
    /// Payloads of the benchmark among them: lines of data, where an event has several.
    pub payloads: u64,
    /// Bytes that came, heads and frames included.
    pub bytes: u64,
    /// What should not have come, or did not.
    pub faults: Faults,
    /// The last id that the first of the streams that heard one has heard.
    pub last_event_id: Option<String>,
    /// From connecting until a stream is open.
    pub connect: Histogram<u64>,
    /// From connecting until the first event.
    pub first_event: Histogram<u64>,
    /// From publishing to hearing a payload.
    pub latency: Histogram<u64>,
}

/// A histogram of microseconds.
pub(crate) fn histogram() -> Histogram<u64> {
    // The bounds are constants that fit.
    Histogram::new_with_bounds(1, LONGEST, 3)
        .unwrap_or_else(|_| unreachable!("bounds of a histogram"))
}

impl Report {
    pub(crate) fn new(streams: usize) -> Self {
        Self {
            elapsed: Duration::ZERO,
            streams,
            open: 0,
            opened: 0,
            returned: 0,
            left: 0,
            closed: 0,
            failed: BTreeMap::new(),
            events: 0,
            payloads: 0,
            bytes: 0,
            faults: Faults::default(),
            last_event_id: None,
            connect: histogram(),
            first_event: histogram(),
            latency: histogram(),
        }
    }

    /// A report from now on, that still knows what went wrong before.
    pub(crate) fn without_measures(&self) -> Self {
        Self {
            closed: self.closed,
            failed: self.failed.clone(),
            faults: self.faults,
            ..Self::new(self.streams)
        }
    }

    /// Adds what another load counted; time and streams stay those of this one.
    pub fn add(&mut self, other: &Self) {
        self.opened += other.opened;
        self.returned += other.returned;
        self.left += other.left;
        self.closed += other.closed;
        for (reason, count) in &other.failed {
            *self.failed.entry(reason.clone()).or_default() += count;
        }
        self.events += other.events;
        self.payloads += other.payloads;
        self.bytes += other.bytes;
        self.faults += other.faults;
        // All histograms have the same bounds.
        self.connect += &other.connect;
        self.first_event += &other.first_event;
        self.latency += &other.latency;
    }

    /// How many could not be opened.
    pub fn failures(&self) -> u64 {
        self.failed.values().sum()
    }

    /// The report for machines; see [`Summary`].
    pub fn summary(&self) -> Summary {
        let seconds = self.elapsed.as_secs_f64();
        let per_second = |count: u64| (count as f64 / seconds.max(1e-9)).round() as u64;
        Summary {
            seconds,
            streams: self.streams,
            open: self.open,
            opened: self.opened,
            returned: self.returned,
            closed: self.closed,
            failed: self.failed.clone(),
            events: self.events,
            events_per_second: per_second(self.events),
            bytes: self.bytes,
            bytes_per_second: per_second(self.bytes),
            connect_us: Quantiles::of(&self.connect),
            first_event_us: Quantiles::of(&self.first_event),
            payloads: self.payloads,
            latency_us: Quantiles::of(&self.latency),
            faults: self.faults,
        }
    }
}

/// A report as one line of JSON.
#[derive(Clone, Debug, Serialize)]
pub struct Summary {
    /// How long it was measured.
    pub seconds: f64,
    /// How many streams were to be open.
    pub streams: usize,
    /// How many were, at the end.
    pub open: usize,
    /// How many opened; one that came back counts again.
    pub opened: u64,
    /// How many of these came back after an end.
    pub returned: u64,
    /// How many were ended by their server, or on the way.
    pub closed: u64,
    /// How many could not be opened, by the reason.
    pub failed: BTreeMap<String, u64>,
    /// Events that came.
    pub events: u64,
    /// The same, in a second.
    pub events_per_second: u64,
    /// Bytes that came.
    pub bytes: u64,
    /// The same, in a second.
    pub bytes_per_second: u64,
    /// Microseconds from connecting until a stream is open.
    pub connect_us: Option<Quantiles>,
    /// Microseconds from connecting until the first event.
    pub first_event_us: Option<Quantiles>,
    /// Payloads of the benchmark among the events.
    pub payloads: u64,
    /// Microseconds from publishing to hearing a payload.
    pub latency_us: Option<Quantiles>,
    /// What should not have come, or did not, of payloads.
    #[serde(flatten)]
    pub faults: Faults,
}

/// Some values of a histogram, in microseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Quantiles {
    /// Half took no longer.
    pub p50: u64,
    /// 90 of 100 took no longer.
    pub p90: u64,
    /// 99 of 100 took no longer.
    pub p99: u64,
    /// None took longer.
    pub max: u64,
}

impl Quantiles {
    /// Those of a histogram; `None` if nothing is in it.
    pub fn of(histogram: &Histogram<u64>) -> Option<Self> {
        (!histogram.is_empty()).then(|| Self {
            p50: histogram.value_at_quantile(0.5),
            p90: histogram.value_at_quantile(0.9),
            p99: histogram.value_at_quantile(0.99),
            max: histogram.max(),
        })
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut line = |name: &str, value: String| writeln!(f, "{name:<14} {value}");
        line("measured", format!("{:.1} s", self.seconds))?;
        line(
            "streams",
            format!(
                "{} wanted, {} opened, {} came back, {} closed, {} open at the end",
                self.streams, self.opened, self.returned, self.closed, self.open
            ),
        )?;
        for (reason, count) in &self.failed {
            line("not opened", format!("{count}: {reason}"))?;
        }
        line(
            "events",
            format!("{}, {}/s", self.events, self.events_per_second),
        )?;
        line(
            "bytes",
            format!("{}, {}/s", self.bytes, self.bytes_per_second),
        )?;
        for (name, quantiles) in [
            ("to open", self.connect_us),
            ("to first event", self.first_event_us),
            ("latency", self.latency_us),
        ] {
            if let Some(quantiles) = quantiles {
                line(name, quantiles.to_string())?;
            }
        }
        if self.payloads > 0 {
            let Faults {
                lost,
                duplicated,
                reordered,
                corrupt,
            } = self.faults;
            let text = format!(
                "{lost} lost, {duplicated} duplicated, {reordered} reordered, {corrupt} corrupt"
            );
            line("checked", format!("{} payloads: {text}", self.payloads))?;
        }
        Ok(())
    }
}

impl fmt::Display for Quantiles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ms = |us: u64| us as f64 / 1000.0;
        write!(
            f,
            "p50 {:.2} ms, p90 {:.2} ms, p99 {:.2} ms, max {:.2} ms",
            ms(self.p50),
            ms(self.p90),
            ms(self.p99),
            ms(self.max)
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_becomes_a_table_and_json() {
        let mut report = Report::new(2);
        report.elapsed = Duration::from_secs(2);
        report.events = 100;
        report.payloads = 100;
        report.failed.insert("status 404".into(), 1);
        report.latency.saturating_record(1500);
        report.latency.saturating_record(u64::MAX);
        let summary = report.summary();
        let text = summary.to_string();
        assert!(text.contains("100, 50/s"), "{text}");
        assert!(text.contains("1: status 404"), "{text}");
        assert!(text.contains("100 payloads: 0 lost"), "{text}");
        assert!(!text.contains("to first event"), "{text}");
        let json = serde_json::to_value(&summary).unwrap();
        assert_eq!(json["events_per_second"], 50);
        assert_eq!(json["lost"], 0);
        assert_eq!(json["connect_us"], serde_json::Value::Null);
        assert!(json["latency_us"]["p50"].as_u64().unwrap() >= 1500);
    }
}
