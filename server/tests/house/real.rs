//! What the tests with real clients share: which programs there are, children that end with the test, and packages
//! that are installed once into `target/clients`.
//!
//! A test whose program or package cannot be had says so in capitals and passes: the reason is in its output.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::{House, escape, exchange};

/// A child that dies with the test.
pub(crate) struct Program(Child);

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Says why a test does nothing.
pub(crate) fn skip(why: &str) {
    let _ = writeln!(std::io::stderr(), "!!! SKIPPED: {why}; see docs/testing.md");
}

/// Whether all programs are installed; says which one is missing.
pub(crate) fn installed(programs: &[&str]) -> bool {
    let missing = programs.iter().find(|program| Command::new(program).arg("--version").output().is_err());
    if let Some(program) = missing {
        skip(&format!("{program} is not installed"));
    }
    missing.is_none()
}

/// A port that is free now.
pub(crate) fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// Starts a program whose output goes to a file.
pub(crate) fn spawn(program: &str, args: &[String], log: &Path) -> Program {
    let log = std::fs::File::create(log).unwrap();
    let child = Command::new(program)
        .args(args)
        .stdin(Stdio::null())
        .stdout(log.try_clone().unwrap())
        .stderr(log)
        .spawn()
        .unwrap_or_else(|e| panic!("{program}: {e}"));
    Program(child)
}

/// Runs a program to its end; panics with what it said when it fails.
#[track_caller]
pub(crate) fn run(command: &mut Command) -> String {
    let output = output(command);
    assert!(
        output.status.success(),
        "{command:?}: {}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).unwrap()
}

/// Runs a program to its end.
#[track_caller]
pub(crate) fn output(command: &mut Command) -> Output {
    command.stdin(Stdio::null()).output().unwrap_or_else(|e| panic!("{command:?}: {e}"))
}

/// `varve` with arguments.
pub(crate) fn varve(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_varve"));
    command.args(args);
    command
}

/// Waits until something holds.
#[track_caller]
pub(crate) fn wait_until(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while !holds() {
        assert!(Instant::now() < deadline, "waited for: {what}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// A Prometheus of the machine over a directory.
pub(crate) struct Prometheus {
    pub(crate) port: u16,
    _program: Program,
}

impl Prometheus {
    /// Starts `program` and waits until it is ready. `config` is its prometheus.yml.
    #[track_caller]
    pub(crate) fn start(program: &Path, dir: &Path, config: &str, flags: &[&str]) -> Prometheus {
        Prometheus::start_at(program, dir, config, flags, free_port())
    }

    /// The same at a port that the configuration may name.
    #[track_caller]
    pub(crate) fn start_at(program: &Path, dir: &Path, config: &str, flags: &[&str], port: u16) -> Prometheus {
        std::fs::create_dir_all(dir).unwrap();
        // Beside the directory: it may be a snapshot that is looked at.
        let (file, log) = (dir.with_extension("yml"), dir.with_extension("log"));
        std::fs::write(&file, config).unwrap();
        let mut args = vec![
            format!("--config.file={}", file.display()),
            format!("--storage.tsdb.path={}", dir.display()),
            format!("--web.listen-address=127.0.0.1:{port}"),
        ];
        args.extend(flags.iter().map(|flag| (*flag).to_owned()));
        let _program = spawn(&program.display().to_string(), &args, &log);
        let prometheus = Prometheus { port, _program };
        wait_until("prometheus is ready", || {
            let said = std::fs::read_to_string(&log).unwrap_or_default();
            assert!(!said.contains("Error loading config"), "{said}");
            prometheus.is_ready()
        });
        prometheus
    }

    fn is_ready(&self) -> bool {
        let request = b"GET /-/ready HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
        std::net::TcpStream::connect(("127.0.0.1", self.port)).is_ok()
            && exchange(&format!("127.0.0.1:{}", self.port), request).status == 200
    }

    pub(crate) fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// A form by POST; the `data` of the answer.
    #[track_caller]
    pub(crate) fn post(&self, path: &str, form: &[(&str, &str)]) -> Value {
        let body = form.iter().map(|(name, value)| format!("{name}={}", escape(value))).collect::<Vec<_>>().join("&");
        let head = format!(
            "POST {path} HTTP/1.1\r\nHost: prometheus\r\nConnection: close\r\nContent-Length: {}\r\n\
             Content-Type: application/x-www-form-urlencoded\r\n\r\n",
            body.len()
        );
        let answer = exchange(&format!("127.0.0.1:{}", self.port), &[head.as_bytes(), body.as_bytes()].concat());
        assert!(matches!(answer.status, 200 | 204), "{path}: {}", String::from_utf8_lossy(&answer.body));
        if answer.body.is_empty() { Value::Null } else { answer.json()["data"].clone() }
    }

    /// Sends a body as remote write 1.0.
    #[track_caller]
    pub(crate) fn write(&self, body: &[u8]) {
        let body = super::compress(body);
        let head = format!(
            "POST /api/v1/write HTTP/1.1\r\nHost: prometheus\r\nConnection: close\r\nContent-Length: {}\r\n\
             Content-Type: application/x-protobuf\r\nContent-Encoding: snappy\r\n\
             X-Prometheus-Remote-Write-Version: 0.1.0\r\n\r\n",
            body.len()
        );
        let answer = exchange(&format!("127.0.0.1:{}", self.port), &[head.as_bytes(), &body].concat());
        assert_eq!(answer.status, 204, "{}", String::from_utf8_lossy(&answer.body));
    }
}

/// The series of a result in a fixed order.
pub(crate) fn sorted(data: &Value) -> Vec<Value> {
    let mut series = data["result"].as_array().cloned().unwrap_or_default();
    series.sort_by_key(|series| series["metric"].to_string());
    series
}

/// Compares results series by series, so that what differs can be read.
#[track_caller]
pub(crate) fn assert_same(what: &str, ours: &Value, theirs: &Value) -> usize {
    let (ours, theirs) = (sorted(ours), sorted(theirs));
    let names = |all: &[Value]| all.iter().map(|series| series["metric"].to_string()).collect::<Vec<_>>();
    assert_eq!(names(&ours), names(&theirs), "{what}: series");
    for (a, b) in ours.iter().zip(&theirs) {
        let metric = &b["metric"];
        for kind in ["value", "values", "histogram", "histograms"] {
            let (a, b) = (&a[kind], &b[kind]);
            if let (Some(a_all), Some(b_all)) = (a.as_array(), b.as_array()) {
                let differs = a_all.iter().zip(b_all).find(|(a, b)| !equal(a, b));
                assert_eq!(differs, None, "{what}: {metric} {kind}, {} and {} of them", a_all.len(), b_all.len());
            }
            assert!(equal(a, b), "{what}: {kind}: {a} {b}");
        }
    }
    theirs.len()
}

/// Equal, where numbers in strings may differ in their last bit: the bounds of buckets are computed.
fn equal(a: &Value, b: &Value) -> bool {
    let number = |text: &str| text.parse::<f64>().ok().filter(|number| number.is_finite());
    match (a, b) {
        (Value::Array(a), Value::Array(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| equal(a, b)),
        (Value::Object(a), Value::Object(b)) => {
            a.len() == b.len() && a.iter().zip(b).all(|((an, a), (bn, b))| an == bn && equal(a, b))
        }
        (Value::String(a), Value::String(b)) if a != b => {
            matches!((number(a), number(b)), (Some(a), Some(b)) if (a - b).abs() <= 2.0 * f64::EPSILON * a.abs())
        }
        _ => a == b,
    }
}

/// A directory for downloads that outlives the test.
pub(crate) fn cache(name: &str) -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).parent().unwrap().join("clients").join(name)
}

/// Programs of newer Debian packages, taken once from the mirror this machine's apt uses and unpacked, not installed:
/// the directory of the programs. `None`, loudly, when they cannot be had.
pub(crate) fn debian(packages: &[&str]) -> Option<PathBuf> {
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    let _one = ONE_AT_A_TIME.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    let dir = cache("debian");
    let bin = dir.join("usr/bin");
    let missing: Vec<&str> =
        packages.iter().copied().filter(|package| !dir.join(format!("{package}.done")).exists()).collect();
    if missing.is_empty() {
        return Some(bin);
    }
    for suite in ["forky", "sid"] {
        match unpack(&dir, suite, &missing) {
            Ok(()) => return Some(bin),
            Err(why) => drop(writeln!(std::io::stderr(), "{suite}: {why}")),
        }
    }
    skip(&format!("Debian's newer packages {missing:?} cannot be had"));
    None
}

/// Fetches packages of a suite and unpacks them into `dir`.
fn unpack(dir: &Path, suite: &str, packages: &[&str]) -> Result<(), String> {
    let work = dir.join(format!("apt-{suite}"));
    for folder in ["lists/partial", "archives/partial", "empty"] {
        std::fs::create_dir_all(work.join(folder)).map_err(|error| error.to_string())?;
    }
    let tried = |command: &mut Command| match command.stdin(Stdio::null()).output() {
        Ok(output) if output.status.success() => Ok(String::from_utf8_lossy(&output.stdout).into_owned()),
        Ok(output) => {
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            Err(said.lines().next().unwrap_or("failed").to_owned())
        }
        Err(error) => Err(error.to_string()),
    };
    let sites = tried(Command::new("apt-get").args(["indextargets", "--format", "$(SITE)"]))?;
    let site = sites.lines().find(|site| !site.contains("security")).ok_or("apt knows no mirror")?;
    let keys = "/usr/share/keyrings/debian-archive-keyring.gpg";
    let list = work.join("sources.list");
    std::fs::write(&list, format!("deb [signed-by={keys}] {site} {suite} main\n"))
        .map_err(|error| error.to_string())?;
    let apt = || {
        let mut command = Command::new("apt-get");
        command.current_dir(&work);
        for (option, value) in [
            ("Dir::Etc::SourceList", list.display().to_string()),
            ("Dir::Etc::SourceParts", work.join("empty").display().to_string()),
            ("Dir::State::Lists", work.join("lists").display().to_string()),
            ("Dir::Cache", work.display().to_string()),
            ("APT::Sandbox::User", String::new()),
            ("Acquire::Languages", "none".to_owned()),
            ("Acquire::http::Timeout", "20".to_owned()),
            ("Acquire::Retries", "1".to_owned()),
        ] {
            command.arg("-o").arg(format!("{option}={value}"));
        }
        command
    };
    tried(apt().arg("update"))?;
    for package in packages {
        tried(apt().args(["download", package]))?;
        let files = std::fs::read_dir(&work).map_err(|error| error.to_string())?;
        let wanted = format!("{package}_");
        let file = files.flatten().find(|file| file.file_name().to_string_lossy().starts_with(&wanted));
        let file = file.ok_or_else(|| format!("no file of {package}"))?;
        tried(Command::new("dpkg").arg("-x").arg(file.path()).arg(dir))?;
        std::fs::remove_file(file.path()).map_err(|error| error.to_string())?;
        std::fs::write(dir.join(format!("{package}.done")), suite).map_err(|error| error.to_string())?;
    }
    Ok(())
}

/// A Prometheus of version 3 with its promtool: the directory of the programs. `None`, loudly, without one.
pub(crate) fn prometheus_3() -> Option<PathBuf> {
    let bin = debian(&["prometheus", "promtool"])?;
    let version = Command::new(bin.join("prometheus")).arg("--version").output();
    if version.is_ok_and(|output| output.status.success()) {
        return Some(bin);
    }
    skip("the newer Prometheus does not run here");
    None
}

/// A python with packages, installed once. `None`, loudly, when they cannot be had.
pub(crate) fn python(name: &str, packages: &[&str]) -> Option<PathBuf> {
    if !installed(&["python3"]) {
        return None;
    }
    let dir = cache(&format!("python-{name}"));
    let (done, wanted) = (dir.join("packages.txt"), packages.join(" "));
    let python = dir.join("bin/python");
    if std::fs::read_to_string(&done).ok().as_deref() == Some(&wanted) {
        return Some(python);
    }
    let _ = std::fs::remove_dir_all(&dir);
    std::fs::create_dir_all(dir.parent().unwrap()).unwrap();
    let made = output(Command::new("python3").args(["-m", "venv"]).arg(&dir));
    let pip = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--retries", "1", "--timeout", "20"];
    let installed = made.status.success().then(|| output(Command::new(&python).args(pip).args(packages)));
    match installed {
        Some(output) if output.status.success() => {
            std::fs::write(&done, wanted).unwrap();
            Some(python)
        }
        other => {
            let said = other.map(|output| String::from_utf8_lossy(&output.stderr).into_owned()).unwrap_or_default();
            let last = said.lines().last().unwrap_or("no virtual environment").to_owned();
            skip(&format!("python packages {wanted} cannot be installed ({last})"));
            None
        }
    }
}

/// A node_modules directory with packages, installed once. `None`, loudly, when they cannot be had.
pub(crate) fn node(name: &str, packages: &[&str]) -> Option<PathBuf> {
    if !installed(&["node", "npm"]) {
        return None;
    }
    let dir = cache(&format!("node-{name}"));
    let (done, wanted) = (dir.join("packages.txt"), packages.join(" "));
    let modules = dir.join("node_modules");
    if std::fs::read_to_string(&done).ok().as_deref() == Some(&wanted) {
        return Some(modules);
    }
    let _ = std::fs::remove_dir_all(&dir);
    std::fs::create_dir_all(&dir).unwrap();
    std::fs::write(dir.join("package.json"), "{\"private\": true}").unwrap();
    let flags = [
        "install",
        "--ignore-scripts",
        "--no-audit",
        "--no-fund",
        "--legacy-peer-deps",
        "--omit=optional",
        "--fetch-retries=1",
        "--fetch-timeout=60000",
    ];
    let installed = output(Command::new("npm").current_dir(&dir).args(flags).args(packages));
    if installed.status.success() {
        std::fs::write(&done, wanted).unwrap();
        return Some(modules);
    }
    let said = String::from_utf8_lossy(&installed.stderr).into_owned();
    let why = said.lines().find(|line| line.contains("npm error")).unwrap_or("npm failed").to_owned();
    skip(&format!("npm packages {wanted} cannot be installed ({why})"));
    None
}

/// Runs a python script against a server, with the server's address as its first argument.
#[track_caller]
pub(crate) fn run_python(python: &Path, house: &House, script: &str, args: &[&str]) -> String {
    run(Command::new(python).args(["-c", script]).arg(format!("http://{}", house.address)).args(args))
}
