//! A router over HTTP in a few lines of std: what is put under a path can be got there.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Result, Write};
use std::net::{TcpListener, TcpStream};
use std::thread;

/// Serves what is on the shelf, and what will be, until the process ends; its URL.
pub(crate) fn serve(mut shelf: BTreeMap<String, Vec<u8>>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            // A client that goes away is not the shelf's concern.
            let _ = answer(stream, &mut shelf);
        }
    });
    url
}

/// Answers one request, and closes.
fn answer(stream: TcpStream, shelf: &mut BTreeMap<String, Vec<u8>>) -> Result<()> {
    let mut stream = BufReader::new(stream);
    let (mut first, mut length) = (String::new(), 0);
    stream.read_line(&mut first)?;
    loop {
        let mut line = String::new();
        stream.read_line(&mut line)?;
        match line.trim_end().split_once(':') {
            Some((key, value)) if key.eq_ignore_ascii_case("content-length") => length = value.trim().parse().unwrap(),
            Some(_) => {}
            None => break,
        }
    }
    let mut body = vec![0; length];
    stream.read_exact(&mut body)?;
    let mut words = first.split(' ');
    let (method, path) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    if method == "PUT" {
        shelf.insert(path.to_owned(), body);
    }
    let (status, body) = match (method, shelf.get(path)) {
        ("PUT", _) => ("200 OK", &[][..]),
        ("GET", Some(record)) => ("200 OK", &record[..]),
        _ => ("404 Not Found", &[][..]),
    };
    let head = "content-type: application/vnd.ipfs.ipns-record\r\nconnection: close";
    write!(stream.get_mut(), "HTTP/1.1 {status}\r\n{head}\r\ncontent-length: {}\r\n\r\n", body.len())?;
    stream.get_mut().write_all(body)
}
