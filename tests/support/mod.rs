//! Runs the real binary with a configuration of its own, and says what became of it.

#![allow(dead_code, reason = "each test file uses a part")]

pub mod wire;

use std::{
    fs,
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpStream},
    path::Path,
    process::{Child, Command, Output, Stdio},
    sync::{Arc, Mutex, mpsc},
    time::Duration,
};

use tempfile::TempDir;

/// How long anything may take before a test gives up on it.
pub const PATIENCE: Duration = Duration::from_secs(120);

/// A command that runs the broker on free ports, with nothing inherited from the environment.
pub fn trivium(data_dir: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_trivium"));
    command
        .env_clear()
        .arg("serve")
        .arg("--data-dir")
        .arg(data_dir)
        .current_dir(std::env::temp_dir());
    for key in [
        "amqp.listen",
        "kafka.listen",
        "mqtt.listen",
        "mqtt.websocket.listen",
        "http.listen",
    ] {
        set(&mut command, key, "127.0.0.1:0");
    }
    command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped());
    command
}

/// Adds `--set key=value`.
pub fn set(command: &mut Command, key: &str, value: &str) {
    command.arg("--set").arg(format!("{key}={value}"));
}

/// Runs a command that is expected to end by itself, and soon.
pub fn run(command: &mut Command) -> Output {
    let mut child = command.spawn().unwrap();
    let ended = wait(&mut child);
    if !ended {
        child.kill().unwrap();
    }
    let output = child.wait_with_output().unwrap();
    let log = String::from_utf8_lossy(&output.stderr);
    assert!(ended, "the broker was to refuse to start, and runs:\n{log}");
    output
}

/// Waits for the end of a process; whether it came in time.
fn wait(child: &mut Child) -> bool {
    let start = std::time::Instant::now();
    while child.try_wait().unwrap().is_none() {
        if start.elapsed() > PATIENCE {
            return false;
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    true
}

/// The last line on standard error.
pub fn last_line(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr)
        .lines()
        .last()
        .unwrap_or_default()
        .to_owned()
}

/// A running broker; killed when dropped.
pub struct Broker {
    child: Child,
    /// `protocol` and address of each listener, as logged.
    listeners: Vec<(String, SocketAddr)>,
    /// What was said on standard error so far.
    log: Arc<Mutex<String>>,
    data_dir: Option<TempDir>,
}

impl Broker {
    /// A broker on a fresh data directory.
    pub fn start() -> Broker {
        Broker::start_with(|_| {})
    }

    /// As [`Broker::start`], with changes to its command line.
    pub fn start_with(change: impl FnOnce(&mut Command)) -> Broker {
        let data_dir = tempfile::tempdir().unwrap();
        let mut command = trivium(data_dir.path());
        change(&mut command);
        let mut broker = Broker::spawn(command);
        broker.data_dir = Some(data_dir);
        broker
    }

    /// Runs `command` until `/health/ready` answers.
    pub fn spawn(mut command: Command) -> Broker {
        set(&mut command, "log.format", "json");
        let mut child = command.spawn().unwrap();
        let log = Arc::default();
        let listeners = listeners(&mut child, &log);
        let broker = Broker {
            child,
            listeners,
            log,
            data_dir: None,
        };
        let start = std::time::Instant::now();
        while !broker.get("/health/ready").starts_with("HTTP/1.1 200") {
            assert!(start.elapsed() < PATIENCE, "the broker does not get ready");
            std::thread::sleep(Duration::from_millis(2));
        }
        broker
    }

    /// Where a protocol listens, if it does.
    pub fn find(&self, protocol: &str) -> Option<SocketAddr> {
        self.listeners
            .iter()
            .find(|(name, _)| name == protocol)
            .map(|(_, address)| *address)
    }

    /// Where a protocol listens.
    pub fn address(&self, protocol: &str) -> SocketAddr {
        self.find(protocol)
            .unwrap_or_else(|| panic!("{protocol} does not listen"))
    }

    /// A connection to a protocol, with time limits.
    pub fn connect(&self, protocol: &str) -> TcpStream {
        let stream = TcpStream::connect(self.address(protocol)).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        stream
    }

    /// The whole answer to a GET request.
    pub fn get(&self, path: &str) -> String {
        let mut stream = self.connect("http");
        write!(
            stream,
            "GET {path} HTTP/1.1\r\nhost: test\r\nconnection: close\r\n\r\n"
        )
        .unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    }

    /// The value of one series of `/metrics`, labels included in `series`.
    pub fn metric(&self, series: &str) -> f64 {
        let text = self.get("/metrics");
        let line = text
            .lines()
            .find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
        line.unwrap_or_else(|| panic!("no {series} in {text}"))
            .parse()
            .unwrap()
    }

    /// Waits until a series of `/metrics` is as it should be.
    pub fn wait_for(&self, series: &str, expected: impl Fn(f64) -> bool) {
        let start = std::time::Instant::now();
        while !expected(self.metric(series)) {
            assert!(start.elapsed() < PATIENCE, "{series} does not get there");
        }
    }

    /// Memory in use, in bytes.
    pub fn resident_bytes(&self) -> usize {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status
            .lines()
            .find_map(|line| line.strip_prefix("VmRSS:"))
            .unwrap();
        line.trim()
            .trim_end_matches(" kB")
            .trim()
            .parse::<usize>()
            .unwrap()
            * 1024
    }

    /// Fails if any task has panicked.
    pub fn assert_no_panic(&self) {
        let log = self.log.lock().unwrap();
        assert!(!log.contains("panicked"), "{log}");
    }

    /// Runs `trivium bench` against it to the end.
    pub fn bench(&self, protocol: &str, arguments: &[&str]) {
        let output = Command::new(env!("CARGO_BIN_EXE_trivium"))
            .args(["bench", protocol])
            .args(arguments)
            .args(["--address", &self.address(protocol).to_string()])
            .output()
            .unwrap();
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{errors}");
    }

    /// The process's id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Sends a signal by name.
    pub fn signal(&self, name: &str) {
        let sent = Command::new("kill")
            .arg(format!("-{name}"))
            .arg(self.child.id().to_string())
            .status()
            .unwrap();
        assert!(sent.success());
    }

    /// Asks it to stop; the exit code.
    pub fn stop(mut self) -> Option<i32> {
        self.signal("TERM");
        self.wait()
    }

    /// Waits for its end; the exit code.
    pub fn wait(&mut self) -> Option<i32> {
        assert!(wait(&mut self.child), "the broker does not stop");
        self.child.wait().unwrap().code()
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Reads the log up to the line of the HTTP listener, which is the last to be bound; the rest goes to `seen` only.
fn listeners(child: &mut Child, seen: &Arc<Mutex<String>>) -> Vec<(String, SocketAddr)> {
    let (sender, receiver) = mpsc::channel();
    let log = BufReader::new(child.stderr.take().unwrap());
    let all = seen.clone();
    std::thread::spawn(move || {
        for line in log.lines().map_while(Result::ok) {
            all.lock().unwrap().push_str(&format!("{line}\n"));
            let _ = sender.send(line);
        }
    });
    let mut found = Vec::new();
    while found.iter().all(|(name, _)| name != "http") {
        let line = receiver.recv_timeout(PATIENCE).unwrap_or_else(|_| {
            panic!("the broker does not start:\n{}", seen.lock().unwrap());
        });
        if let Some(protocol) = field(&line, "protocol") {
            let address = field(&line, "address").expect("a listener has an address");
            found.push((protocol.to_owned(), address.parse().unwrap()));
        }
    }
    found
}

/// The value of a text field of a flat JSON line.
fn field<'a>(line: &'a str, name: &str) -> Option<&'a str> {
    let (_, rest) = line.split_once(&format!("\"{name}\":\""))?;
    rest.split('"').next()
}
