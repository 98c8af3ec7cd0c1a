//! The whole program beside HAProxy, nginx and stunnel: TLS in front, the same plain service behind, the same client, one
//! after the other in one run. Prints a table; reads only what the kernel says of the other process, so the cost of the
//! client and of the service behind is not counted.
//!
//! `cargo build --release -p waxseal && WAXSEAL_BIN=target/release/waxseal cargo bench -p waxseal-e2e --bench peers`
//!
//! A peer that is not installed is named and left out: this measures, it proves nothing.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::Command;

use waxseal_e2e::{CERTIFICATE, Daemon, Door, Ground, Pki, TlsClient, Wire, mail_certificate};

const NAME: &str = "mail.example.test";
const HANDSHAKES: u32 = 1500;
const RESUMPTIONS: u32 = 1500;
const SESSIONS: usize = 5000;
const MEBIBYTES: usize = 1024;

/// What one program cost.
struct Cost {
    name: &'static str,
    /// CPU milliseconds for a thousand handshakes.
    full: f64,
    resumed: f64,
    /// CPU milliseconds for a GiB.
    download: f64,
    upload: f64,
    /// KiB of resident memory for one idle session.
    idle: f64,
    /// MiB before the first.
    start: f64,
}

fn main() {
    // `cargo bench` and `cargo test --benches` pass flags that mean nothing here; only the former is to measure.
    if !std::env::args().any(|argument| argument == "--bench") {
        return;
    }
    let ground = Ground::new();
    let pki = mail_certificate(&ground);
    let pem =
        [ground.path("mail.pem"), ground.path("mail.key")].map(|path| std::fs::read(path).expect("PEM"));
    std::fs::write(ground.path("both.pem"), pem.concat()).expect("PEM");
    serve_behind(ground.addr("behind"));

    let mut costs = vec![measure("waxseal", &pki, &door(&ground), ground.addr("front"))];
    for (name, program, start) in PEERS {
        if !installed(program) {
            println!("{name} is not installed (apt-get install {name}); left out");
            continue;
        }
        costs.push(measure(name, &pki, &start(&ground), ground.addr(name)));
    }
    table(&costs);
}

type Start = fn(&Ground) -> Daemon;
const PEERS: [(&str, &str, Start); 3] =
    [("haproxy", "haproxy", haproxy), ("nginx", "nginx", nginx), ("stunnel4", "stunnel4", stunnel)];

fn installed(program: &str) -> bool {
    Command::new("sh")
        .args(["-c", &format!("command -v {program}")])
        .output()
        .is_ok_and(|out| out.status.success())
}

fn door(ground: &Ground) -> Door {
    let listener = r#"
[server.listener.front]
protocol = "http"
bind = "<front>"
upstream = "behind"
tls.implicit = true
[upstream.behind]
address = "<behind>"
[log]
level = "error"
"#;
    Door::start(ground, &format!("{CERTIFICATE}{listener}"))
}

fn haproxy(ground: &Ground) -> Daemon {
    let text = "global\n  maxconn 9000\ndefaults\n  mode tcp\n  timeout connect 5s\n  timeout client 30m\n  timeout server 30m\n\
                frontend front\n  bind <haproxy> ssl crt <dir>/both.pem\n  default_backend behind\n\
                backend behind\n  server one <behind>\n";
    start(ground, "haproxy", text, &["haproxy", "-db", "-f"])
}

fn nginx(ground: &Ground) -> Daemon {
    let module = "/usr/lib/nginx/modules/ngx_stream_module.so";
    let load = if std::path::Path::new(module).exists() {
        format!("load_module {module};\n")
    } else {
        String::new()
    };
    let text = format!(
        "{load}daemon off;\nmaster_process off;\npid <dir>/nginx.pid;\nerror_log <dir>/nginx.log;\n\
         worker_rlimit_nofile 20000;\nevents {{ worker_connections 19000; }}\n\
         stream {{ server {{ listen <nginx> ssl; ssl_certificate <dir>/mail.pem; ssl_certificate_key <dir>/mail.key;\n\
         ssl_protocols TLSv1.2 TLSv1.3; ssl_session_cache shared:S:10m; proxy_pass <behind>; proxy_timeout 30m; }} }}\n"
    );
    start(ground, "nginx", &text, &["nginx", "-c"])
}

fn stunnel(ground: &Ground) -> Daemon {
    let text = "foreground = yes\npid =\ndebug = 3\nTIMEOUTidle = 1800\n[front]\naccept = <stunnel4>\nconnect = <behind>\n\
                cert = <dir>/both.pem\n";
    start(ground, "stunnel4", text, &["stunnel4"])
}

fn start(ground: &Ground, name: &str, text: &str, command: &[&str]) -> Daemon {
    let file = ground.write(&format!("{name}.conf"), text);
    let mut arguments: Vec<&str> = command[1..].to_vec();
    arguments.push(file.to_str().expect("utf-8"));
    let mut daemon = Daemon::start(name, command[0], &arguments, &[]);
    daemon.wait_listening(&[ground.port(name)]);
    daemon
}

/// Behind: the first byte says what is wanted. `g`: a flood; `p`: reads all and says how much; anything else: silence.
fn serve_behind(address: SocketAddr) {
    let listener = TcpListener::bind(address).expect("port");
    std::thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            // Small, as there are thousands.
            let thread = std::thread::Builder::new().stack_size(128 * 1024);
            thread.spawn(move || behind(stream)).expect("thread");
        }
    });
}

fn behind(mut stream: TcpStream) {
    let mut buffer = vec![0; 1];
    match stream.read(&mut buffer) {
        Ok(1) if buffer == b"g" => {
            let flood = vec![b'x'; 1 << 20];
            for _ in 0..MEBIBYTES {
                stream.write_all(&flood).expect("flood");
            }
        }
        Ok(1) if buffer == b"p" => {
            let mut buffer = vec![0; 1 << 18];
            let mut left = MEBIBYTES << 20;
            while left > 0 {
                match stream.read(&mut buffer) {
                    Ok(0) | Err(_) => return,
                    Ok(count) => left -= count,
                }
            }
            let _ = stream.write_all(b".");
        }
        _ => {
            let _ = stream.read(&mut buffer);
        }
    }
}

fn measure(name: &'static str, pki: &Pki, daemon: &Daemon, front: SocketAddr) -> Cost {
    eprintln!("{name} ...");
    // The first session pays for what is made once.
    drop(Wire::connect(front).tls(&pki.client(NAME)));
    let start = daemon.resident_kib();

    let cpu = Cpu::of(daemon);
    for _ in 0..HANDSHAKES {
        // A new client knows no session to resume.
        drop(Wire::connect(front).tls(&pki.client(NAME)));
    }
    let full = cpu.milliseconds() * 1000.0 / f64::from(HANDSHAKES);

    let client = pki.client(NAME);
    visit(front, &client);
    let cpu = Cpu::of(daemon);
    for _ in 0..RESUMPTIONS {
        visit(front, &client);
    }
    let resumed = cpu.milliseconds() * 1000.0 / f64::from(RESUMPTIONS);

    let cpu = Cpu::of(daemon);
    let mut wire = Wire::connect(front).tls(&client);
    wire.send("g");
    let mut left = MEBIBYTES << 20;
    while left > 0 {
        left -= wire.read_some().expect("flood").len();
    }
    drop(wire);
    let download = cpu.milliseconds();

    let cpu = Cpu::of(daemon);
    let mut wire = Wire::connect(front).tls(&client);
    wire.send("p");
    let flood = vec![b'x'; 1 << 20];
    for _ in 0..MEBIBYTES {
        wire.send(&flood);
    }
    assert_eq!(wire.read_some().expect("answer"), b".");
    drop(wire);
    let upload = cpu.milliseconds();

    let before = daemon.resident_kib();
    let idle: Vec<Wire> = (0..SESSIONS).map(|_| Wire::connect(front).tls(&client)).collect();
    std::thread::sleep(std::time::Duration::from_secs(2));
    let after = daemon.resident_kib();
    let each = (after.saturating_sub(before)) as f64 / idle.len() as f64;
    Cost { name, full, resumed, download, upload, idle: each, start: start as f64 / 1024.0 }
}

/// A session that lasts until the client has read what follows the handshake: the tickets of TLS 1.3.
fn visit(front: SocketAddr, client: &TlsClient) {
    let mut wire = Wire::connect(front).tls(client);
    wire.send("x").silent_for(std::time::Duration::from_millis(2));
}

/// CPU time of a process since a moment, in clock ticks of 10 ms.
struct Cpu<'a> {
    daemon: &'a Daemon,
    since: u64,
}

impl<'a> Cpu<'a> {
    fn of(daemon: &'a Daemon) -> Self {
        Self { daemon, since: ticks(daemon) }
    }

    fn milliseconds(&self) -> f64 {
        (ticks(self.daemon) - self.since) as f64 * 10.0
    }
}

/// utime and stime of proc(5).
fn ticks(daemon: &Daemon) -> u64 {
    let stat = daemon.proc_file("stat");
    let (_, fields) = stat.rsplit_once(')').expect("a name in parentheses");
    fields.split_whitespace().skip(11).take(2).map(|field| field.parse::<u64>().expect("ticks")).sum()
}

fn table(costs: &[Cost]) {
    println!(
        "\n{:<10} {:>14} {:>14} {:>14} {:>14} {:>16} {:>11}",
        "", "ms/1000 full", "ms/1000 res.", "ms/GiB down", "ms/GiB up", "KiB/idle session", "MiB at rest"
    );
    for cost in costs {
        println!(
            "{:<10} {:>14.0} {:>14.0} {:>14.0} {:>14.0} {:>16.1} {:>11.1}",
            cost.name, cost.full, cost.resumed, cost.download, cost.upload, cost.idle, cost.start
        );
    }
    let Some((ours, others)) = costs.split_first() else { return };
    for other in others {
        println!(
            "waxseal / {:<10} {:>4.2} {:>14.2} {:>14.2} {:>14.2} {:>16.2} {:>11.2}",
            other.name,
            ours.full / other.full,
            ours.resumed / other.resumed,
            ours.download / other.download,
            ours.upload / other.upload,
            ours.idle / other.idle,
            ours.start / other.start
        );
    }
}
