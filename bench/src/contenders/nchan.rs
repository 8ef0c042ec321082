//! Nchan, a module of nginx: subscribers by `eventsource`, publishers by POST, one worker.

use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::Result;
use fanfare_bench_protocol::{Publish, Published};

use super::{Contender, Demand, Place, Readiness, Server};
use crate::{
    pipeline,
    process::{Process, free_address},
};

/// Where Debian and others put the program and its module.
const PROGRAMS: [&str; 3] = [
    "/usr/sbin/nginx",
    "/usr/bin/nginx",
    "/opt/homebrew/bin/nginx",
];
const MODULES: [&str; 3] = [
    "/usr/lib/nginx/modules/ngx_nchan_module.so",
    "/usr/lib64/nginx/modules/ngx_nchan_module.so",
    "/usr/share/nginx/modules/ngx_nchan_module.so",
];

pub struct Nchan;

fn found() -> Option<(PathBuf, PathBuf)> {
    let first = |paths: &[&str]| paths.iter().map(PathBuf::from).find(|path| path.exists());
    first(&PROGRAMS).zip(first(&MODULES))
}

impl Contender for Nchan {
    fn name(&self) -> &'static str {
        "nchan"
    }

    fn prepare(&mut self) -> Result<Readiness> {
        Ok(match found() {
            Some(_) => Readiness::Ready,
            None => Readiness::Missing("apt-get install nginx libnginx-mod-nchan".to_owned()),
        })
    }

    fn start(&self, demand: Demand, folder: &Path) -> Result<Box<dyn Server>> {
        let (program, module) = found().unwrap_or_default();
        let address = free_address()?;
        let file = folder.join("nginx.conf");
        fs::write(&file, configuration(&module, address, demand, folder))?;
        let mut command = Command::new(program);
        command.arg("-p").arg(folder).arg("-c").arg(&file);
        let process = Process::start(&mut command, address, folder)?;
        Ok(Box::new(Running { process, address }))
    }
}

fn configuration(module: &Path, address: SocketAddr, demand: Demand, folder: &Path) -> String {
    let (module, folder) = (module.display(), folder.display());
    // Where fewer than one in 16 are free, nginx closes those whose request has not come.
    let connections = demand.streams + demand.streams / 8 + 1000;
    let messages = demand.backlog.max(100);
    let seconds = demand.history_age.map_or(600, |age| age.as_secs().max(1));
    format!(
        r#"load_module {module};
daemon off;
worker_processes 1;
pid {folder}/pid;
error_log stderr error;
worker_rlimit_nofile {files};
events {{ worker_connections {connections}; }}
http {{
  access_log off;
  client_body_temp_path {folder}/body;
  proxy_temp_path {folder}/proxy;
  fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi;
  scgi_temp_path {folder}/scgi;
  keepalive_requests 1000000000;
  nchan_shared_memory_size 1024M;
  server {{
    listen {address} backlog=4096;
    location = /events {{
      nchan_subscriber eventsource;
      nchan_channel_id $arg_channel;
      nchan_subscriber_first_message newest;
    }}
    location = /publish {{
      nchan_publisher http;
      nchan_channel_id $arg_channel;
      nchan_message_buffer_length {messages};
      nchan_message_timeout {seconds}s;
    }}
  }}
}}
"#,
        files = connections + 1000
    )
}

struct Running {
    process: Process,
    address: SocketAddr,
}

impl Server for Running {
    fn process(&self) -> &Process {
        &self.process
    }

    fn address(&self) -> SocketAddr {
        self.address
    }

    fn publish(&self, publish: &Publish) -> Result<Published> {
        pipeline::publish(self.address, publish, "POST", |channel, data| {
            (format!("/publish?channel={channel}"), "text/plain", data)
        })
    }

    fn place(&self, channel: &str, last_event_id: Option<String>) -> Result<Option<Place>> {
        Ok(Some(Place {
            events: self.events(channel),
            last_event_id,
        }))
    }
}
