//! A process, with all that it started.

use std::{
    collections::HashSet,
    process::{Child, Command, Stdio},
};

use crate::wait;

/// Kills it and its descendants, and waits until all have ended.
#[track_caller]
pub fn kill(root: &mut Child) {
    let all = stop_all(root.id());
    signal("KILL", &all);
    root.wait().expect("a killed process ends");
    wait::until_true("what a server started ends", || {
        let alive = table();
        let mut alive = alive.iter().filter(|process| all.contains(&process.id));
        alive.next().is_none()
    });
}

/// Lets it and its descendants stand still.
#[track_caller]
pub fn freeze(root: &Child) {
    stop_all(root.id());
}

/// Lets it and its descendants go on.
#[track_caller]
pub fn thaw(root: &Child) {
    // The root last, so that it finds its children awake.
    let mut all = descendants(&table(), root.id());
    all.push(root.id());
    signal("CONT", &all);
}

/// Stops them, those too that one of them starts meanwhile, and returns who they are.
fn stop_all(root: u32) -> Vec<u32> {
    let mut stopped = vec![root];
    signal("STOP", &stopped);
    loop {
        let mut new = descendants(&table(), root);
        new.retain(|id| !stopped.contains(id));
        if new.is_empty() {
            break;
        }
        signal("STOP", &new);
        stopped.extend(new);
    }
    // A signal is sent before it is heeded, and by each thread for itself.
    wait::until_true("a process stands still", || {
        let table = table();
        let mut stopped = table.iter().filter(|process| stopped.contains(&process.id));
        stopped.all(|process| process.is_stopped)
    });
    stopped
}

/// Sends a signal. One that has ended meanwhile does not get it.
pub(super) fn signal(name: &str, to: &[u32]) {
    let sent = Command::new("kill")
        .arg(format!("-{name}"))
        .args(to.iter().map(u32::to_string))
        .stderr(Stdio::null())
        .status();
    sent.expect("kill is installed");
}

/// A process that has not ended, or one of its threads.
struct Process {
    id: u32,
    parent: u32,
    is_stopped: bool,
}

/// All that run here; threads too where `ps` has a word for that.
#[track_caller]
fn table() -> Vec<Process> {
    let threads = cfg!(target_os = "linux").then_some("-L");
    let listed = Command::new("ps")
        .args(threads)
        .args(["-A", "-o", "pid=,ppid=,stat="])
        .output()
        .expect("ps is installed; scripts/setup does it");
    assert!(listed.status.success(), "ps lists processes");
    let line = |line: &str| {
        let mut words = line.split_whitespace();
        let id = words.next()?.parse().ok()?;
        let parent = words.next()?.parse().ok()?;
        let state = words.next()?;
        // A zombie has ended, whether or not somebody takes note of it.
        (!state.starts_with('Z')).then_some(Process {
            id,
            parent,
            is_stopped: state.starts_with('T'),
        })
    };
    String::from_utf8_lossy(&listed.stdout)
        .lines()
        .filter_map(line)
        .collect()
}

fn descendants(table: &[Process], root: u32) -> Vec<u32> {
    let mut family = HashSet::from([root]);
    loop {
        let before = family.len();
        for process in table {
            if family.contains(&process.parent) {
                family.insert(process.id);
            }
        }
        if family.len() == before {
            break;
        }
    }
    family.remove(&root);
    family.into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn states(of: &[u32]) -> Vec<String> {
        let ids: Vec<_> = of.iter().map(u32::to_string).collect();
        let listed = Command::new("ps")
            .args(["-o", "stat=", "-p", &ids.join(",")])
            .output()
            .expect("ps is installed");
        let listed = String::from_utf8_lossy(&listed.stdout);
        listed
            .lines()
            .map(|state| state.trim()[..1].into())
            .collect()
    }

    #[test]
    fn what_a_process_started_shares_its_fate() {
        let script = "sh -c 'sleep 1000; true' & sleep 1000; true";
        let mut root = Command::new("sh")
            .args(["-c", script])
            .spawn()
            .expect("sh is installed");
        let below = wait::until("three are below", || {
            let below = descendants(&table(), root.id());
            (below.len() == 3).then_some(below)
        });
        freeze(&root);
        wait::until_true("all stand still", || states(&below) == ["T"; 3]);
        thaw(&root);
        wait::until_true("all go on", || states(&below) == ["S"; 3]);
        freeze(&root);
        kill(&mut root);
        assert!(states(&below).iter().all(|state| state == "Z"));
    }
}
