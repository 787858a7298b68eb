//! Definitions from outside: the file that is imported at start, and the command that asks a running broker for its
//! own or gives it others, over its management API.

use std::{
    fs,
    io::{self, Read, Write},
    net::TcpStream,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context, bail};
use base64::{Engine, engine::general_purpose::STANDARD};
use clap::{Args, Subcommand};
use trivium_core::Broker;

use crate::api::definitions;

/// How long a running broker may take for one step.
const PATIENCE: Duration = Duration::from_secs(300);

/// Characters of a path that go as they are (RFC 3986 section 2.3).
const UNRESERVED: &[u8] = b"-._~";

/// Imports a file before anybody connects. A file that cannot be imported closes the door.
pub(crate) async fn import_at_start(broker: &Broker, file: &Path) -> anyhow::Result<()> {
    let problem = || format!("definitions.file {}", file.display());
    let document = fs::read(file).with_context(problem)?;
    let definitions = definitions::read(&document, None)
        .map_err(anyhow::Error::msg)
        .with_context(problem)?;
    broker.import(definitions).await.with_context(problem)?;
    tracing::info!(file = %file.display(), "definitions imported");
    Ok(())
}

/// How to export or import definitions.
#[derive(Debug, Args)]
pub struct DefinitionsArgs {
    /// What to do.
    #[command(subcommand)]
    pub action: Action,

    /// Host and port of the running broker's HTTP listener
    #[arg(
        long,
        global = true,
        value_name = "HOST:PORT",
        default_value = "127.0.0.1:15672"
    )]
    pub http: String,

    /// An administrator
    #[arg(long, global = true, default_value = "guest")]
    pub user: String,

    /// The administrator's password
    #[arg(
        long,
        global = true,
        default_value = "guest",
        hide_default_value = true
    )]
    pub password: String,

    /// Only one vhost
    #[arg(long, global = true)]
    pub vhost: Option<String>,
}

/// Export or import.
#[derive(Debug, Subcommand)]
pub enum Action {
    /// Write what a running broker has set up and declared, in RabbitMQ's JSON format.
    Export {
        /// Where to [default: standard output]
        file: Option<PathBuf>,
    },
    /// Set a running broker up with a file of RabbitMQ's, Trivium's or LavinMQ's definitions.
    Import {
        /// Where from [default: standard input]
        file: Option<PathBuf>,
    },
}

/// Does what the command line says.
pub fn run(args: &DefinitionsArgs) -> anyhow::Result<()> {
    match &args.action {
        Action::Export { file } => {
            let document = request(args, "GET", &[])?;
            match file {
                Some(file) => fs::write(file, document)
                    .with_context(|| format!("cannot write {}", file.display())),
                None => Ok(writeln!(
                    io::stdout(),
                    "{}",
                    String::from_utf8_lossy(&document)
                )?),
            }
        }
        Action::Import { file } => {
            let document = match file {
                Some(file) => {
                    fs::read(file).with_context(|| format!("cannot read {}", file.display()))?
                }
                None => {
                    let mut document = Vec::new();
                    io::stdin().read_to_end(&mut document)?;
                    document
                }
            };
            request(args, "POST", &document).map(drop)
        }
    }
}

/// One request (RFC 9112); the body of a good answer.
fn request(args: &DefinitionsArgs, method: &str, body: &[u8]) -> anyhow::Result<Vec<u8>> {
    let host = args
        .http
        .trim_start_matches("http://")
        .trim_end_matches('/');
    let credentials = STANDARD.encode(format!("{}:{}", args.user, args.password));
    let path = match &args.vhost {
        None => "/api/definitions".to_owned(),
        Some(vhost) => format!("/api/definitions/{}", encoded(vhost)),
    };
    let mut stream =
        TcpStream::connect(host).with_context(|| format!("no broker answers at {host}"))?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    write!(
        stream,
        "{method} {path} HTTP/1.0\r\nHost: {host}\r\nAuthorization: Basic {credentials}\r\n\
         Content-Type: application/json\r\nContent-Length: {}\r\n\r\n",
        body.len()
    )?;
    stream.write_all(body)?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    let Some(end) = answer.windows(4).position(|four| four == b"\r\n\r\n") else {
        bail!("{host} does not answer as an HTTP server");
    };
    let head = String::from_utf8_lossy(&answer[..end]).into_owned();
    let status = head.split(' ').nth(1).unwrap_or_default();
    let body = answer.split_off(end + 4);
    if status.starts_with('2') {
        return Ok(body);
    }
    let reason = serde_json::from_slice::<serde_json::Value>(&body)
        .ok()
        .and_then(|answer| Some(answer["reason"].as_str()?.to_owned()))
        .unwrap_or_else(|| String::from_utf8_lossy(&body).into_owned());
    bail!("the broker answers {status}: {reason}");
}

/// A name as one segment of a path.
fn encoded(name: &str) -> String {
    let mut path = String::new();
    for byte in name.bytes() {
        if byte.is_ascii_alphanumeric() || UNRESERVED.contains(&byte) {
            path.push(char::from(byte));
        } else {
            path.push_str(&format!("%{byte:02X}"));
        }
    }
    path
}
