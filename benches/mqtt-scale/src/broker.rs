//! A broker of one's own: a process on a free port, and what it takes.

use std::{
    fs,
    net::{Ipv4Addr, SocketAddr, TcpListener},
    path::Path,
    process::Stdio,
    time::{Duration, Instant},
};

use anyhow::Context;
use clap::ValueEnum;
use tempfile::TempDir;
use tokio::{
    net::TcpStream,
    process::{Child, Command},
};

const READY_WITHIN: Duration = Duration::from_secs(20);

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Kind {
    Trivium,
    Mosquitto,
}

impl Kind {
    pub const ALL: [Kind; 2] = [Kind::Trivium, Kind::Mosquitto];

    pub fn name(self) -> &'static str {
        match self {
            Kind::Trivium => "Trivium",
            Kind::Mosquitto => "Mosquitto",
        }
    }
}

pub struct Broker {
    pub port: u16,
    process: Child,
    _folder: TempDir,
}

impl Broker {
    pub async fn start(kind: Kind, trivium: &Path) -> anyhow::Result<Broker> {
        let folder = tempfile::tempdir()?;
        let port = free_port()?;
        let mut command = match kind {
            Kind::Trivium => trivium_command(trivium, folder.path(), port),
            Kind::Mosquitto => mosquitto_command(folder.path(), port)?,
        };
        let process = command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("cannot start {}", kind.name()))?;
        let broker = Broker {
            port,
            process,
            _folder: folder,
        };
        broker.wait_ready().await?;
        Ok(broker)
    }

    pub async fn stop(mut self) -> anyhow::Result<()> {
        self.process.kill().await?;
        Ok(())
    }

    /// Resident memory in bytes.
    pub fn resident(&self) -> anyhow::Result<u64> {
        let pid = self.process.id().context("the broker has ended")?;
        let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kilobytes = line.and_then(|line| line.trim().strip_suffix(" kB"));
        let kilobytes: u64 = kilobytes.context("no VmRSS in /proc")?.trim().parse()?;
        Ok(kilobytes * 1024)
    }

    /// CPU seconds since it was started.
    pub fn cpu(&self) -> anyhow::Result<f64> {
        /// Ticks of a second in /proc, on every Linux of today.
        const TICKS: f64 = 100.0;
        let pid = self.process.id().context("the broker has ended")?;
        let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
        let (_, fields) = stat.rsplit_once(')').context("/proc is not as expected")?;
        let fields: Vec<&str> = fields.split_whitespace().collect();
        let ticks = |index: usize| {
            fields
                .get(index)
                .and_then(|field| field.parse::<f64>().ok())
        };
        let (user, system) = ticks(11)
            .zip(ticks(12))
            .context("/proc is not as expected")?;
        Ok((user + system) / TICKS)
    }

    async fn wait_ready(&self) -> anyhow::Result<()> {
        let deadline = Instant::now() + READY_WITHIN;
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, self.port));
        while TcpStream::connect(address).await.is_err() {
            anyhow::ensure!(Instant::now() < deadline, "the broker does not listen");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Ok(())
    }
}

fn free_port() -> anyhow::Result<u16> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?
        .local_addr()?
        .port())
}

fn trivium_command(binary: &Path, folder: &Path, port: u16) -> Command {
    let mut command = Command::new(binary);
    command
        .arg("serve")
        .arg("--data-dir")
        .arg(folder.join("data"));
    for setting in [
        "durability=os",
        "amqp.enabled=false",
        "kafka.enabled=false",
        "http.enabled=false",
        "mqtt.websocket.enabled=false",
        &format!("mqtt.listen=127.0.0.1:{port}"),
    ] {
        command.args(["--set", setting]);
    }
    command.env_remove("TRIVIUM_BIN");
    command
}

fn mosquitto_command(folder: &Path, port: u16) -> anyhow::Result<Command> {
    let file = folder.join("mosquitto.conf");
    let settings = format!(
        "listener {port} 127.0.0.1\nallow_anonymous true\npersistence false\nmax_queued_messages 0\n\
         log_dest none\nuser root\n"
    );
    fs::write(&file, settings)?;
    let mut command = Command::new("/usr/sbin/mosquitto");
    command.arg("-c").arg(file);
    Ok(command)
}
