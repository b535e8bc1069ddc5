//! Hooks: an operator is told by a program and by a webhook that a node was lost, and that it returned.

use harness::{Mesh, strewn, within};
use serde_json::Value;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

/// For a machine that does other work.
const LONG: Duration = Duration::from_secs(120);

/// A request's authorization and its body.
fn read_request(stream: &TcpStream) -> (String, Value) {
    let mut reader = BufReader::new(stream);
    let (mut length, mut authorization) = (0, String::new());
    loop {
        let mut line = String::new();
        let _ = reader.read_line(&mut line).unwrap();
        if line.trim().is_empty() {
            break;
        }
        let (name, value) = line.split_once(':').unwrap_or((&line, ""));
        match name.to_ascii_lowercase().as_str() {
            "content-length" => length = value.trim().parse().unwrap(),
            "authorization" => value.trim().clone_into(&mut authorization),
            _ => {}
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).unwrap();
    (authorization, serde_json::from_slice(&body).unwrap())
}

/// A webhook's other side, which is out of order at the first call.
fn webhook() -> (u16, Receiver<(String, Value)>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let (calls, called) = channel();
    std::thread::spawn(move || {
        for (number, stream) in listener.incoming().enumerate() {
            let mut stream = stream.unwrap();
            let request = read_request(&stream);
            let status = if number == 0 { "503 Service Unavailable" } else { "204 No Content" };
            let answer =
                format!("HTTP/1.1 {status}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
            stream.write_all(answer.as_bytes()).unwrap();
            if calls.send(request).is_err() {
                return;
            }
        }
    });
    (port, called)
}

fn names(call: &Value) -> Vec<&str> {
    call["events"]
        .as_array()
        .unwrap()
        .iter()
        .map(|event| event["event"].as_str().unwrap())
        .collect()
}

#[test]
fn an_operator_is_told_that_a_node_was_lost_and_that_it_returned() {
    let mut mesh = Mesh::start(&[("a", "1"), ("b", "1"), ("c", "1")]);
    let (port, called) = webhook();
    let (token, told) = (mesh.dir().join("token"), mesh.dir().join("told"));
    fs::write(&token, "a-word\n").unwrap();
    let settings = mesh.nodes[0].home.join("strewn.toml");
    let text = fs::read_to_string(&settings).unwrap();
    let text = text.replace("# patience = \"1d\"", "patience = \"3s\"");
    let hooks = format!(
        "[hooks]\ncommand = ['sh', '-c', 'cat >> \"$1\"; echo >> \"$1\"', 'sh', {told:?}]\n\
         webhook = 'http://127.0.0.1:{port}/strewn'\nwebhook-token-file = {token:?}\nevery = '1s'\n\
         events = ['node-lost', 'node-returned']\n"
    );
    fs::write(&settings, format!("{text}\n{hooks}")).unwrap();
    mesh.nodes[0].kill();
    mesh.nodes[0].start();
    mesh.settle();

    mesh.nodes[2].kill();
    let (_, refused) = called.recv_timeout(LONG).expect("a call");
    let (authorization, lost) = called.recv_timeout(LONG).expect("the call again");
    assert_eq!(refused["events"], lost["events"], "the same events again");
    assert_eq!(authorization, "Bearer a-word");
    assert_eq!(names(&lost), ["node-lost"]);
    let event = &lost["events"][0];
    assert_eq!((&event["severity"], &lost["omitted"]), (&"warning".into(), &serde_json::json!({})));
    assert!(event["message"].as_str().unwrap().contains("silent for too long"), "{event}");
    assert!(event["time"].as_str().unwrap().ends_with('Z'), "{event}");

    mesh.nodes[2].start();
    let (_, returned) = called.recv_timeout(LONG).expect("a call");
    assert_eq!(names(&returned), ["node-returned"]);
    assert_eq!(returned["events"][0]["details"]["node"], event["details"]["node"]);
    let lines = || {
        let text = fs::read_to_string(&told).unwrap_or_default();
        let lines = text.lines().map(serde_json::from_str::<Value>);
        lines.collect::<Result<Vec<Value>, _>>().unwrap_or_default()
    };
    assert!(within(LONG, || lines().len() == 2), "{:?}", fs::read_to_string(&told));
    assert_eq!(
        lines().iter().flat_map(names).collect::<Vec<&str>>(),
        ["node-lost", "node-returned"]
    );
    assert_eq!(lines()[0]["node"], lost["node"]);
}

#[test]
fn a_hook_that_cannot_be_meant_keeps_the_node_from_starting_and_says_why() {
    let mut mesh = Mesh::start(&[("a", "1")]);
    mesh.nodes[0].kill();
    let settings = mesh.nodes[0].home.join("strewn.toml");
    let text = fs::read_to_string(&settings).unwrap();
    for (hooks, said) in [
        ("events = ['node-lots']", "node-lots"),
        ("webhook = 'https://x'\nwebhook-token-file = '/nowhere/token'", "/nowhere/token"),
    ] {
        fs::write(&settings, format!("{text}\n[hooks]\n{hooks}\n")).unwrap();
        let ran = strewn(&mesh.nodes[0].home, ["node", "run"]).ended(1);
        assert!(ran.err.contains(said), "{}", ran.err);
    }
}
