use super::{Decoder, Encoder, TABLE_SIZE, integer, put_integer};

fn decoded(decoder: &mut Decoder, block: &[u8]) -> Result<Vec<(String, String)>, &'static str> {
    let mut headers = Vec::new();
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    decoder.decode(block, |name, value| headers.push((text(name), text(value))))?;
    Ok(headers)
}

fn owned(headers: &[(&str, &str)]) -> Vec<(String, String)> {
    headers
        .iter()
        .map(|&(name, value)| (name.to_owned(), value.to_owned()))
        .collect()
}

/// RFC 7541 appendix C.4: three requests with Huffman coding, on one connection.
#[test]
fn requests_of_appendix_c4() {
    let blocks: [&[u8]; 3] = [
        &[
            0x82, 0x86, 0x84, 0x41, 0x8c, 0xf1, 0xe3, 0xc2, 0xe5, 0xf2, 0x3a, 0x6b, 0xa0, 0xab, 0x90, 0xf4, 0xff,
        ],
        &[0x82, 0x86, 0x84, 0xbe, 0x58, 0x86, 0xa8, 0xeb, 0x10, 0x64, 0x9c, 0xbf],
        &[
            0x82, 0x87, 0x85, 0xbf, 0x40, 0x88, 0x25, 0xa8, 0x49, 0xe9, 0x5b, 0xa9, 0x7d, 0x7f, 0x89, 0x25, 0xa8, 0x49,
            0xe9, 0x5b, 0xb8, 0xe8, 0xb4, 0xbf,
        ],
    ];
    let host = (":authority", "www.example.com");
    let expected: [&[(&str, &str)]; 3] = [
        &[(":method", "GET"), (":scheme", "http"), (":path", "/"), host],
        &[
            (":method", "GET"),
            (":scheme", "http"),
            (":path", "/"),
            host,
            ("cache-control", "no-cache"),
        ],
        &[
            (":method", "GET"),
            (":scheme", "https"),
            (":path", "/index.html"),
            host,
            ("custom-key", "custom-value"),
        ],
    ];
    let mut decoder = Decoder::new();
    for (block, expected) in blocks.iter().zip(expected) {
        assert_eq!(decoded(&mut decoder, block).unwrap(), owned(expected));
    }
}

#[test]
fn what_repeats_costs_one_byte() {
    let headers = [
        (":method", "CONNECT"),
        (":authority", "198.18.0.1:80"),
        ("baggage", "k8s.namespace.name=a,service.name=b"),
    ];
    let (mut encoder, mut decoder) = (Encoder::new(), Decoder::new());
    let mut sizes = Vec::new();
    for _ in 0..3 {
        let mut block = Vec::new();
        encoder.begin(&mut block);
        for (name, value) in headers {
            encoder.encode(&mut block, name.as_bytes(), value.as_bytes());
        }
        assert_eq!(decoded(&mut decoder, &block).unwrap(), owned(&headers));
        sizes.push(block.len());
    }
    assert_eq!(sizes[1..], [3, 3]);
}

#[test]
fn what_differs_with_each_connection_does_not_drive_out_what_repeats() {
    let (mut encoder, mut decoder) = (Encoder::new(), Decoder::new());
    let baggage = "k8s.cluster.name=Kubernetes,k8s.namespace.name=shop,k8s.deployment.name=cart,service.name=cart";
    let mut entries = Vec::new();
    for port in 10_000..11_000 {
        let forwarded = format!("for=\"198.18.0.1:{port}\"");
        let headers = [
            (":method", "CONNECT"),
            (":authority", "198.18.0.2:80"),
            ("baggage", baggage),
            ("forwarded", &forwarded),
        ];
        let mut block = Vec::new();
        encoder.begin(&mut block);
        for (name, value) in headers {
            encoder.encode(&mut block, name.as_bytes(), value.as_bytes());
        }
        assert_eq!(decoded(&mut decoder, &block).unwrap(), owned(&headers));
        entries.push((block.len(), encoder.table.entries(), decoder.table.entries()));
    }
    let said_again = 3 + 3 + "for=\"198.18.0.1:10000\"".len();
    assert!(
        entries[1..].iter().all(|entry| *entry == (said_again, 4, 4)),
        "{:?}",
        &entries[..4]
    );
}

#[test]
fn table_shrinks_and_grows_with_the_peers_settings() {
    let (mut encoder, mut decoder) = (Encoder::new(), Decoder::new());
    for max in [4096, 100, 0, 60, 1 << 20, 0, 4096] {
        encoder.set_max(max);
        for round in 0..5 {
            let mut block = Vec::new();
            encoder.begin(&mut block);
            let value = format!("{max} {}", round % 2);
            encoder.encode(&mut block, b"name", value.as_bytes());
            assert_eq!(decoded(&mut decoder, &block).unwrap(), owned(&[("name", &value)]));
        }
    }
    assert_eq!(encoder.table.max(), TABLE_SIZE);
}

#[test]
fn malformed_blocks_are_errors() {
    let cases: [&[u8]; 10] = [
        &[0x80],                                     // index 0
        &[0xbe],                                     // dynamic index in an empty table
        &[0xff],                                     // truncated integer
        &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01], // integer too large
        &[0x40],                                     // literal without a name
        &[0x40, 0x01, b'a'],                         // literal without a value
        &[0x40, 0x7f, 0xff, 0xff, 0xff, 0x7f],       // string beyond the block
        &[0x3f, 0xe2, 0x1f],                         // table of 4097 bytes
        &[0x82, 0x20],                               // size update after a header
        &[0x00, 0x01, b'a', 0x81, 0x00],             // Huffman padding of zeros
    ];
    for block in cases {
        assert!(decoded(&mut Decoder::new(), block).is_err(), "{block:x?}");
    }
}

#[test]
fn integers_round_trip() {
    for bits in [4, 5, 6, 7] {
        for value in (0..1000).chain([1 << 14, 1 << 21, (1 << 28) - 1]) {
            let mut out = Vec::new();
            put_integer(&mut out, 0, bits, value);
            let mut rest = &out[..];
            assert_eq!(integer(&mut rest, bits), Ok(value));
            assert!(rest.is_empty());
        }
    }
}
