//! A load as a command.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use clap::Args;
use signal_hook::{consts::SIGINT, flag};

use crate::{load::Load, plan::Plan, report::Report, target::Target};

/// How often it is looked whether it is time to end.
const LOOK: Duration = Duration::from_millis(50);

/// What is said of [`Options::target`]. To clap the three characters of the placeholder are a line break, so a style
/// stands among them: bold, and plain again.
const TARGET: &str = "Where streams are opened, such as http://127.0.0.1:8080/events; {\u{1b}[1mn\u{1b}[0m} becomes the \
                      number of the stream";

/// Which streams to open, and for how long.
#[derive(Clone, Debug, Args)]
pub struct Options {
    /// Where streams are opened.
    #[arg(value_name = "URL", help = TARGET)]
    pub target: Target,
    /// How many streams
    #[arg(long, short = 'n', default_value_t = 100, value_name = "NUMBER")]
    pub streams: usize,
    /// How many seconds to measure, from the first connect
    #[arg(long, short, default_value_t = 10.0, value_name = "SECONDS")]
    pub duration: f64,
    /// How many streams may be on their way at a time, from connecting to the head of the answer
    #[arg(long, default_value_t = 200, value_name = "NUMBER", value_parser = at_least_one)]
    pub in_flight: usize,
    /// The most connects in a second
    #[arg(long, value_name = "NUMBER")]
    pub rate: Option<u64>,
    /// A header of each request
    #[arg(long = "header", short = 'H', value_name = "NAME: VALUE", value_parser = header)]
    pub headers: Vec<(String, String)>,
    /// The Last-Event-ID of each stream's first request
    #[arg(long, value_name = "ID", value_parser = text)]
    pub last_event_id: Option<String>,
    /// Come back when a stream ends or cannot be opened, after what the server says by `retry`, or 3 s
    #[arg(long)]
    pub reconnect: bool,
    /// So many of the streams stop reading once they are open
    #[arg(long, default_value_t = 0, value_name = "NUMBER")]
    pub slow: usize,
    /// Print one line of JSON
    #[arg(long)]
    pub json: bool,
}

impl Options {
    /// Opens the streams, waits, and prints what was measured: to the end, or to the first Ctrl-C. Fails if no stream
    /// could be opened, or events of the benchmark were lost, came twice or in a wrong order.
    pub fn run(self) -> Result<()> {
        ensure!(
            self.duration.is_finite() && self.duration >= 0.0,
            "a duration is a number of seconds"
        );
        let stop = Arc::new(AtomicBool::new(false));
        // The second Ctrl-C ends the process: this is registered first, and sees the flag as it was before.
        flag::register_conditional_shutdown(SIGINT, 130, stop.clone())?;
        flag::register(SIGINT, stop.clone())?;
        let until = Instant::now() + Duration::from_secs_f64(self.duration.min(1e9));
        let load = Load::start(self.plan())?;
        while Instant::now() < until && !stop.load(Relaxed) {
            thread::sleep(LOOK.min(until.saturating_duration_since(Instant::now())));
        }
        let report = load.stop(None)?;
        let summary = report.summary();
        match self.json {
            true => println!("{}", serde_json::to_string(&summary)?),
            false => print!("{summary}"),
        }
        verdict(&report)
    }

    fn plan(&self) -> Plan {
        Plan {
            in_flight: self.in_flight,
            rate: self.rate,
            headers: self.headers.clone(),
            last_event_id: self.last_event_id.clone(),
            reconnect: self.reconnect.then_some(Duration::from_secs(3)),
            stuck: self.slow,
            ..Plan::new(self.target.clone(), self.streams)
        }
    }
}

fn verdict(report: &Report) -> Result<()> {
    if report.streams > 0 && report.opened == 0 {
        let reasons = report.failed.keys().cloned().collect::<Vec<_>>().join("; ");
        bail!("no stream could be opened: {reasons}");
    }
    ensure!(report.faults.is_none(), "the events were not as published");
    Ok(())
}

fn at_least_one(text: &str) -> Result<usize> {
    let number = text.parse().context("not a number")?;
    ensure!(number > 0, "at least 1");
    Ok(number)
}

/// What may stand in a header.
fn text(text: &str) -> Result<String> {
    let is_text = |char: char| !char.is_control();
    ensure!(text.chars().all(is_text), "a control character");
    Ok(text.to_owned())
}

fn header(line: &str) -> Result<(String, String)> {
    let (name, value) = line.split_once(':').context("a header is NAME: VALUE")?;
    ensure!(
        !name.is_empty() && name.chars().all(|char| char.is_ascii_graphic()),
        "a header's name has no spaces"
    );
    Ok((name.to_owned(), text(value.trim())?))
}

#[cfg(test)]
mod tests {
    use clap::{CommandFactory, Parser};

    use super::*;

    #[derive(Parser)]
    struct Command {
        #[command(flatten)]
        options: Options,
    }

    fn parse(words: &str) -> Result<Options> {
        let words = format!("bench {words}");
        let command = Command::try_parse_from(words.split('|').flat_map(|part| {
            // A part in bars keeps its spaces.
            match part.contains(": ") {
                true => vec![part],
                false => part.split_whitespace().collect(),
            }
        }))?;
        Ok(command.options)
    }

    #[test]
    fn words_become_a_plan() {
        let options =
            parse("http://127.0.0.1:1/ -n 5 -d 1.5 --slow 1 --reconnect -H|x-y: z z|").unwrap();
        let plan = options.plan();
        assert_eq!((plan.streams, plan.stuck), (5, 1));
        assert_eq!(plan.reconnect, Some(Duration::from_secs(3)));
        assert_eq!(plan.headers, [("x-y".to_owned(), "z z".to_owned())]);
        assert!(parse("https://127.0.0.1/").is_err());
        assert!(parse("http://127.0.0.1/ --in-flight 0").is_err());
        assert!(parse("http://127.0.0.1/ -H nothing").is_err());
    }

    #[test]
    fn the_help_shows_the_placeholder() {
        let help = Command::command().render_help().to_string();
        assert!(
            help.contains("/events; {n} becomes the number of the stream"),
            "{help}"
        );
    }

    #[test]
    fn nobody_there_is_told() {
        let options = parse("http://127.0.0.1:9/ -n 2 -d 0.2 --json").unwrap();
        let error = options.run().unwrap_err().to_string();
        assert!(error.starts_with("no stream could be opened: "), "{error}");
    }
}
