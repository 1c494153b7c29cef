//! A resolver for the records that discovery asks for: the system's servers and search list, UDP, and TCP where an
//! answer was cut. A name that does not exist has no records; a server that fails is an error, so that its targets
//! stay.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;
use std::time::Duration;

use simple_dns::rdata::{OPT, RData};
use simple_dns::{CLASS, Name, Packet, PacketFlag, QCLASS, QTYPE, Question, RCODE, TYPE};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};

use crate::Surroundings;
use crate::config::discovery::RecordType;

/// How long one server may take.
const PATIENCE: Duration = Duration::from_secs(2);
/// Bytes of an answer over UDP, as asked for.
const UDP_BYTES: u16 = 4096;
/// Records of one answer.
const RECORDS_MAX: usize = 10_000;

/// A record of an answer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Record {
    /// A or AAAA.
    Address(IpAddr),
    /// Target, with its last dot, and port.
    Srv(String, u16),
    /// Mail server, with its last dot.
    Mx(String),
    /// Name server, with its last dot.
    Ns(String),
}

/// Whom to ask, and how names are completed.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct Resolver {
    servers: Vec<SocketAddr>,
    search: Vec<String>,
    dots: usize,
    seed: u64,
}

impl Resolver {
    /// Reads the system's file.
    pub(super) fn of_system(path: &Path, surroundings: &Surroundings) -> Result<Resolver, String> {
        let text = std::fs::read_to_string(path).map_err(|error| format!("could not load resolv.conf: {error}"))?;
        let mut resolver = Resolver::parse(&text);
        // So that answers cannot be forged by who guesses the numbers of requests.
        resolver.seed = surroundings.seed ^ surroundings.clock.wall().0.unsigned_abs();
        Ok(resolver)
    }

    fn parse(text: &str) -> Resolver {
        let mut resolver = Resolver { dots: 1, ..Resolver::default() };
        for line in text.lines() {
            let mut words = line.split_whitespace();
            match words.next() {
                Some("nameserver") => {
                    let address = words.next().and_then(|word| word.split('%').next()?.parse::<IpAddr>().ok());
                    resolver.servers.extend(address.map(|address| SocketAddr::new(address, 53)));
                }
                Some("search" | "domain") => resolver.search = words.map(str::to_owned).collect(),
                Some("options") => {
                    for word in words {
                        if let Some(dots) = word.strip_prefix("ndots:").and_then(|dots| dots.parse().ok()) {
                            resolver.dots = dots;
                        }
                    }
                }
                _ => {}
            }
        }
        resolver
    }

    /// The names to try for a name, in order.
    fn names(&self, name: &str) -> Vec<String> {
        if name.ends_with('.') {
            return vec![name.to_owned()];
        }
        let itself = format!("{name}.");
        let mut names: Vec<String> =
            self.search.iter().map(|domain| format!("{name}.{}.", domain.trim_end_matches('.'))).collect();
        let at = if name.matches('.').count() >= self.dots { 0 } else { names.len() };
        names.insert(at, itself);
        names
    }

    /// The records of a name. None where all servers say that it does not exist.
    pub(super) async fn lookup(&self, name: &str, kind: RecordType) -> Result<Vec<Record>, String> {
        let mut all_answered = true;
        for (i, name) in self.names(name).iter().enumerate() {
            match self.ask_any(name, kind, self.seed.wrapping_add(i as u64)).await {
                Ok(Some(records)) => return Ok(records),
                Ok(None) => {}
                Err(error) => {
                    tracing::warn!(name, %error, "DNS resolution failed");
                    all_answered = false;
                }
            }
        }
        if all_answered {
            return Ok(Vec::new());
        }
        Err(format!("could not resolve {name:?}: all servers responded with errors to at least one search domain"))
    }

    async fn ask_any(&self, name: &str, kind: RecordType, id: u64) -> Result<Option<Vec<Record>>, String> {
        let mut last = format!("could not resolve {name}: no servers");
        for (server, i) in self.servers.iter().zip(0u64..) {
            // Mixed, so that one number does not tell the next.
            let id = (id.wrapping_add(i).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 48) as u16;
            match ask(*server, name, kind, id).await {
                Ok(answer) => return Ok(answer),
                Err(error) => last = format!("{server}: {error}"),
            }
        }
        Err(last)
    }
}

async fn ask(server: SocketAddr, name: &str, kind: RecordType, id: u16) -> Result<Option<Vec<Record>>, String> {
    let question = question(name, kind, id)?;
    let late = |_| "i/o timeout".to_owned();
    let answer = tokio::time::timeout(PATIENCE, over_udp(server, &question, id)).await.map_err(late)??;
    match parse(&answer, kind)? {
        Parsed::Records(records) => Ok(Some(records)),
        Parsed::NoSuchName => Ok(None),
        Parsed::Cut => {
            let answer = tokio::time::timeout(PATIENCE, over_tcp(server, &question)).await.map_err(late)??;
            match parse(&answer, kind)? {
                Parsed::Records(records) => Ok(Some(records)),
                Parsed::NoSuchName => Ok(None),
                Parsed::Cut => Err("got truncated message on TCP".to_owned()),
            }
        }
    }
}

fn question(name: &str, kind: RecordType, id: u16) -> Result<Vec<u8>, String> {
    let record_type = match kind {
        RecordType::A => TYPE::A,
        RecordType::Aaaa => TYPE::AAAA,
        RecordType::Srv => TYPE::SRV,
        RecordType::Mx => TYPE::MX,
        RecordType::Ns => TYPE::NS,
    };
    let name = Name::new(name.trim_end_matches('.')).map_err(|error| format!("{name:?}: {error}"))?;
    let mut packet = Packet::new_query(id);
    packet.set_flags(PacketFlag::RECURSION_DESIRED);
    packet.questions.push(Question::new(name, QTYPE::TYPE(record_type), QCLASS::CLASS(CLASS::IN), false));
    *packet.opt_mut() = Some(OPT { opt_codes: Vec::new(), udp_packet_size: UDP_BYTES, version: 0 });
    packet.build_bytes_vec().map_err(|error| error.to_string())
}

async fn over_udp(server: SocketAddr, question: &[u8], id: u16) -> Result<Vec<u8>, String> {
    let local: SocketAddr =
        if server.is_ipv4() { (Ipv4Addr::UNSPECIFIED, 0).into() } else { (Ipv6Addr::UNSPECIFIED, 0).into() };
    let words = |error: std::io::Error| error.to_string();
    let socket = UdpSocket::bind(local).await.map_err(words)?;
    socket.connect(server).await.map_err(words)?;
    socket.send(question).await.map_err(words)?;
    let mut answer = vec![0; usize::from(u16::MAX)];
    loop {
        let bytes = socket.recv(&mut answer).await.map_err(words)?;
        // Anything else is not the answer to this question.
        if answer.first_chunk() == Some(&id.to_be_bytes()) {
            answer.truncate(bytes);
            return Ok(answer);
        }
    }
}

async fn over_tcp(server: SocketAddr, question: &[u8]) -> Result<Vec<u8>, String> {
    let words = |error: std::io::Error| error.to_string();
    let mut stream = TcpStream::connect(server).await.map_err(words)?;
    let len = u16::try_from(question.len()).map_err(|_| "the question is too long".to_owned())?;
    stream.write_all(&[&len.to_be_bytes(), question].concat()).await.map_err(words)?;
    let bytes = stream.read_u16().await.map_err(words)?;
    let mut answer = vec![0; usize::from(bytes)];
    stream.read_exact(&mut answer).await.map_err(words)?;
    Ok(answer)
}

enum Parsed {
    Records(Vec<Record>),
    NoSuchName,
    Cut,
}

fn parse(answer: &[u8], kind: RecordType) -> Result<Parsed, String> {
    let packet = Packet::parse(answer).map_err(|error| format!("malformed answer: {error}"))?;
    if packet.has_flags(PacketFlag::TRUNCATION) {
        return Ok(Parsed::Cut);
    }
    match packet.rcode() {
        RCODE::NoError => {}
        RCODE::NameError => return Ok(Parsed::NoSuchName),
        other => return Err(format!("the server answers {other:?}")),
    }
    let record = |data: &RData<'_>| match (kind, data) {
        (RecordType::A, RData::A(a)) => Some(Record::Address(IpAddr::V4(Ipv4Addr::from(a.address)))),
        (RecordType::Aaaa, RData::AAAA(a)) => Some(Record::Address(IpAddr::V6(Ipv6Addr::from(a.address)))),
        (RecordType::Srv, RData::SRV(srv)) => Some(Record::Srv(format!("{}.", srv.target), srv.port)),
        (RecordType::Mx, RData::MX(mx)) => Some(Record::Mx(format!("{}.", mx.exchange))),
        (RecordType::Ns, RData::NS(ns)) => Some(Record::Ns(format!("{}.", ns.0))),
        // Aliases on the way to the answer.
        _ => None,
    };
    Ok(Parsed::Records(packet.answers.iter().filter_map(|answer| record(&answer.rdata)).take(RECORDS_MAX).collect()))
}

#[cfg(test)]
mod tests {
    use simple_dns::ResourceRecord;
    use simple_dns::rdata::{A, CNAME, SRV};

    use super::*;

    fn answer(id: u16, flags: PacketFlag, data: Vec<RData<'_>>) -> Vec<u8> {
        let mut packet = Packet::new_reply(id);
        packet.set_flags(flags);
        for data in data {
            packet.answers.push(ResourceRecord::new(Name::new_unchecked("n.example"), CLASS::IN, 60, data));
        }
        packet.build_bytes_vec().unwrap()
    }

    /// A server on UDP and TCP that answers with what it is given; UDP answers are cut when `cut`.
    async fn server(cut: bool) -> SocketAddr {
        let (udp, tcp) = loop {
            let udp = UdpSocket::bind("127.0.0.1:0").await.unwrap();
            if let Ok(tcp) = tokio::net::TcpListener::bind(udp.local_addr().unwrap()).await {
                break (udp, tcp);
            }
        };
        let address = udp.local_addr().unwrap();
        let records = |id| {
            let target = Name::new_unchecked("h.example");
            let srv = RData::SRV(SRV { priority: 1, weight: 1, port: 99, target });
            let alias = RData::CNAME(CNAME(Name::new_unchecked("x.example")));
            answer(id, PacketFlag::empty(), vec![alias, srv, RData::A(A { address: 1 })])
        };
        tokio::spawn(async move {
            let mut bytes = [0; 512];
            while let Ok((len, from)) = udp.recv_from(&mut bytes).await {
                let id = Packet::parse(&bytes[..len]).unwrap().id();
                let wrong = answer(id.wrapping_add(1), PacketFlag::empty(), vec![]);
                udp.send_to(&wrong, from).await.unwrap();
                let sent = if cut { answer(id, PacketFlag::TRUNCATION, vec![]) } else { records(id) };
                udp.send_to(&sent, from).await.unwrap();
            }
        });
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = tcp.accept().await {
                let mut bytes = vec![0; usize::from(stream.read_u16().await.unwrap())];
                stream.read_exact(&mut bytes).await.unwrap();
                let sent = records(Packet::parse(&bytes).unwrap().id());
                stream.write_u16(sent.len() as u16).await.unwrap();
                stream.write_all(&sent).await.unwrap();
            }
        });
        address
    }

    #[tokio::test]
    async fn records_are_asked_for_over_udp_and_where_cut_over_tcp() {
        for cut in [false, true] {
            let resolver = Resolver { servers: vec![server(cut).await], dots: 1, ..Resolver::default() };
            let srv = resolver.lookup("n.example", RecordType::Srv).await;
            assert_eq!(srv, Ok(vec![Record::Srv("h.example.".to_owned(), 99)]), "cut {cut}");
            let a = resolver.lookup("n.example", RecordType::A).await;
            assert_eq!(a, Ok(vec![Record::Address("0.0.0.1".parse().unwrap())]));
        }
        assert!(Resolver::default().lookup("n", RecordType::A).await.is_err());
    }

    #[test]
    fn the_system_says_whom_to_ask_and_what_to_try() {
        let resolver =
            Resolver::parse("# x\nnameserver 10.0.0.1\nnameserver fe80::1%eth0\nsearch a.b c\noptions ndots:2\n");
        assert_eq!(resolver.servers, ["10.0.0.1:53".parse().unwrap(), "[fe80::1]:53".parse().unwrap()]);
        assert_eq!(resolver.names("x.y"), ["x.y.a.b.", "x.y.c.", "x.y."]);
        assert_eq!(resolver.names("x.y.z"), ["x.y.z.", "x.y.z.a.b.", "x.y.z.c."]);
        assert_eq!(resolver.names("x."), ["x."]);
    }

    #[test]
    fn no_damage_panics() {
        let target = Name::new_unchecked("h.example");
        let whole = answer(7, PacketFlag::empty(), vec![RData::SRV(SRV { priority: 1, weight: 1, port: 9, target })]);
        for at in 0..whole.len() {
            let _ = parse(&whole[..at], RecordType::Srv);
            for bit in 0..8 {
                let mut damaged = whole.clone();
                damaged[at] ^= 1 << bit;
                let _ = parse(&damaged, RecordType::Srv);
            }
        }
    }
}
