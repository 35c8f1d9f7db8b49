//! Published vectors, and keys that are almost right.
//!
//! The oracle of everything else is Node: `tests/crypto.test.mjs`.

use super::{Allowance, Error, Parts, run};

const DETERMINISTIC: Allowance = Allowance { randomness: false, iterations: 1000 };
const FREE: Allowance = Allowance { randomness: true, iterations: 1000 };

fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text.bytes().filter(|byte| !byte.is_ascii_whitespace()).collect();
    let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap();
    digits.chunks(2).map(byte).collect()
}

/// Runs a request whose parts are hexadecimal: key, data, first, second.
fn ask(request: &str, parts: [&str; 4]) -> Result<Vec<u8>, Error> {
    let [key, data, first, second] = parts.map(hex);
    run(request, &Parts { key: &key, data: &data, first: &first, second: &second }, DETERMINISTIC)
}

fn gives(request: &str, parts: [&str; 4], expected: &str) {
    let found = ask(request, parts).unwrap_or_else(|error| panic!("{request}: {error}"));
    assert_eq!(found, hex(expected), "{request}");
}

#[test]
fn hashes_of_fips_180_and_macs_of_rfc_4231() {
    let abc = ["", "616263", "", ""];
    let digest = |name: &str| format!(r#"{{"operation":"digest","name":"{name}"}}"#);
    gives(&digest("SHA-1"), abc, "a9993e364706816aba3e25717850c26c9cd0d89d");
    gives(
        &digest("SHA-256"),
        abc,
        "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad",
    );
    // RFC 4231, test case 2.
    gives(
        r#"{"operation":"sign","name":"HMAC","hash":"SHA-256"}"#,
        ["4a656665", "7768617420646f2079612077616e7420666f72206e6f7468696e673f", "", ""],
        "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843",
    );
}

#[test]
fn derivations_of_rfc_5869_and_rfc_6070() {
    gives(
        r#"{"operation":"deriveBits","name":"HKDF","hash":"SHA-256","length":336}"#,
        [&"0b".repeat(22), "", "000102030405060708090a0b0c", "f0f1f2f3f4f5f6f7f8f9"],
        "3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf34007208d5b887185865",
    );
    let pbkdf2 = |length: u32, iterations: u32| {
        format!(
            r#"{{"operation":"deriveBits","name":"PBKDF2","hash":"SHA-1","length":{length},
            "iterations":{iterations}}}"#
        )
    };
    let password = ["70617373776f7264", "", "73616c74", ""];
    gives(&pbkdf2(160, 2), password, "ea6c014dc72d6f8ccd1ed92ace1d41f0d8de8957");
    // Two blocks of output are twice the work.
    let refused = Err(Error::TooManyIterations { asked: 1002, most: 1000 });
    assert_eq!(ask(&pbkdf2(168, 501), password), refused);
    assert!(ask(&pbkdf2(160, 501), password).is_ok());
    let error = ask(&pbkdf2((16 << 23) + 8, 1), password).unwrap_err();
    assert_eq!(error.to_string(), "OperationError: At most 16 MiB are made at once");
}

#[test]
fn ciphers_of_sp_800_38() {
    let key = "2b7e151628aed2a6abf7158809cf4f3c";
    let block = "6bc1bee22e409f96e93d7e117393172a";
    // SP 800-38A, F.2.1, and the padding that WebCrypto adds.
    let sealed = ask(
        r#"{"operation":"encrypt","name":"AES-CBC"}"#,
        [key, block, "000102030405060708090a0b0c0d0e0f", ""],
    );
    assert_eq!(sealed.unwrap()[..16], hex("7649abac8119b246cee98e9b12e9197d"));
    // SP 800-38A, F.5.1.
    gives(
        r#"{"operation":"encrypt","name":"AES-CTR","length":128}"#,
        [key, block, "f0f1f2f3f4f5f6f7f8f9fafbfcfdfeff", ""],
        "874d6191b620e3261bef6864990db6ce",
    );
}

#[test]
fn gcm_with_vectors_that_the_library_does_not_take() {
    // The GCM specification, test case 5: a vector of 8 bytes.
    let key = "feffe9928665731c6d6a8f9467308308";
    let text = "d9313225f88406e5a55909c5aff5269a86a7a9531534f7da2e4c303d8a318a72
        1c3c0c95956809532fcf0e2449a6b525b16aedf5aa0de657ba637b39";
    let additional = "feedfacedeadbeeffeedfacedeadbeefabaddad2";
    let sealed = "61353b4c2806934a777ff51fa22a4755699b2a714fcdc6f83766e5f97b6c7423
        73806900e49f24b22b097544d4896b424989b5e1ebac0f07c23f4598";
    let tag = "3612d2e79e3b0785561be14aaca2fccb";
    let encrypt = r#"{"operation":"encrypt","name":"AES-GCM"}"#;
    let iv = "cafebabefacedbad";
    let all = format!("{sealed}{tag}");
    gives(encrypt, [key, text, iv, additional], &all);
    gives(&encrypt.replace("encrypt", "decrypt"), [key, &all, iv, additional], text);
    // Every byte of ciphertext, tag, vector and additional data counts.
    for place in [1, 2, 3] {
        let mut parts = [key, &all, iv, additional].map(hex);
        parts[place][0] ^= 1;
        let [key, data, first, second] = &parts;
        let parts = Parts { key, data, first, second };
        let opened = run(&encrypt.replace("encrypt", "decrypt"), &parts, DETERMINISTIC);
        assert_eq!(opened, Err(Error::Operation("Decryption failed")));
    }
}

#[test]
fn key_wrap_of_rfc_3394() {
    let keys = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f";
    let data = "00112233445566778899aabbccddeeff";
    let wrap = r#"{"operation":"wrapKey","name":"AES-KW"}"#;
    for (size, wrapped) in [
        (16, "1fa68b0a8112b447aef34bd8fb5a7b829d3e862371d2cfe5"),
        (24, "96778b25ae6ca435f92b5b97c050aed2468ab8a17ad84e5d"),
        (32, "64e8c3f9ce0f5ba263e9777905818a2a93c8191e7d6e8ae7"),
    ] {
        gives(wrap, [&keys[..size * 2], data, "", ""], wrapped);
        gives(&wrap.replace("wrap", "unwrap"), [&keys[..size * 2], wrapped, "", ""], data);
    }
}

#[test]
fn curves_of_rfc_8032_and_rfc_7748() {
    // RFC 8032, 7.1, test 2.
    let seed = "4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb";
    let public = "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c";
    let signature = "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da
        085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00";
    let sign = r#"{"operation":"sign","name":"Ed25519"}"#;
    gives(sign, [&format!("{seed}{public}"), "72", "", ""], signature);
    gives(&sign.replace("sign", "verify"), [public, "72", signature, ""], "01");
    gives(&sign.replace("sign", "verify"), [public, "73", signature, ""], "00");
    // RFC 7748, 5.2. The half of the material that is the public key is not looked at here.
    let scalar = "a546e36bf0527c9d3b16154b82465edd62144c0ac1fc5a18506a2244ba449ac4";
    let point = "e6db6867583030db3594c1a424b15f7c726624ec26b3353b10a903a6d0ab1c4c";
    let secret = "c3da55379de9c6908e94ea4df28d084f32eccf03491c71f754b4075577a28552";
    let agree = r#"{"operation":"deriveBits","name":"X25519"}"#;
    gives(agree, [&format!("{scalar}{scalar}"), point, "", ""], secret);
}

#[test]
fn a_hash_of_any_length_signs_on_any_curve() {
    // RFC 6979, A.2.5: the message "sample" on P-256.
    let point = "0460fed4ba255a9d31c961eb74c6356d68c049b8923b61fa6ce669622e60f29fb6
        7903fe1008b8bc99a41ae9e95628bc64f2f1b20c2d7e9f5177a3c294d4462299";
    for (hash, signature) in [
        (
            "SHA-1",
            "61340c88c3aaebeb4f6d667f672ca9759a6ccaa9fa8811313039ee4a35471d32
            6d7f147dac089441bb2e2fe8f7a3fa264b9c475098fdcf6e00d7c996e1b8b7eb",
        ),
        (
            "SHA-512",
            "8496a60b5e9b47c825488827e0495b0e3fa109ec4568fd3f8d1097678eb97f00
            2362ab1adbe2b8adf9cb9edab740ea6049c028114f2460f96554f61fae3302fe",
        ),
    ] {
        let verify = format!(
            r#"{{"operation":"verify","name":"ECDSA","hash":"{hash}","namedCurve":"P-256"}}"#
        );
        gives(&verify, [point, "73616d706c65", signature, ""], "01");
        gives(&verify, [point, "73616d706c66", signature, ""], "00");
    }
}

#[test]
fn what_draws_randomness_is_refused_and_nothing_else_is() {
    let key = |name: &str| {
        format!(
            r#"{{"operation":"generateKey","name":"{name}","namedCurve":"P-256","length":128,
            "modulusLength":2048}}"#
        )
    };
    for name in ["AES-GCM", "HMAC", "ECDSA", "ECDH", "Ed25519", "X25519", "RSA-PSS"] {
        assert_eq!(
            ask(&key(name), ["", "", "010001", ""]),
            Err(Error::RandomnessRefused),
            "{name}"
        );
    }
    for request in [
        r#"{"operation":"sign","name":"ECDSA","namedCurve":"P-256","hash":"SHA-256"}"#,
        r#"{"operation":"sign","name":"RSA-PSS","hash":"SHA-256","saltLength":1}"#,
        r#"{"operation":"encrypt","name":"RSA-OAEP","hash":"SHA-256"}"#,
    ] {
        assert_eq!(ask(request, [""; 4]), Err(Error::RandomnessRefused), "{request}");
    }
    let unsalted = r#"{"operation":"sign","name":"RSA-PSS","hash":"SHA-256","saltLength":0}"#;
    assert_eq!(ask(unsalted, [""; 4]), Err(Error::Data("The key is not an RSA key")));
}

/// A key that is made, in DER; and the same key imported with each of its bytes changed: whatever
/// is accepted is a key, whatever is not has a name, and nothing panics.
fn changed_everywhere(parameters: &str) {
    let ask = |operation: &str, more: &str, parts: &Parts<'_>| {
        let request = format!(r#"{{"operation":"{operation}",{parameters}{more}}}"#);
        run(&request, parts, FREE)
    };
    let exponent = [1, 0, 1];
    let parts = Parts { first: &exponent, ..Parts::default() };
    let key = ask("generateKey", "", &parts).unwrap();
    let public = ask("publicKey", "", &Parts { key: &key, ..Parts::default() }).unwrap();
    for (material, format, kind) in [(&key, "pkcs8", "private"), (&public, "spki", "public")] {
        let export = format!(r#","format":"{format}","type":"{kind}""#);
        let parts = Parts { key: material, ..Parts::default() };
        let der = ask("exportKey", &export, &parts).unwrap();
        let import = |data: &[u8]| ask("importKey", &export, &Parts { data, ..Parts::default() });
        assert_eq!(import(&der).as_ref(), Ok(material));
        for length in 0..der.len() {
            assert!(import(&der[..length]).is_err(), "cut at {length}");
        }
        for place in 0..der.len().min(100) {
            for bit in [0, 3, 7] {
                let mut data = der.clone();
                data[place] ^= 1 << bit;
                if let Err(error) = import(&data) {
                    assert!(error.to_string().contains("Error: "), "{error}");
                }
            }
        }
    }
}

#[test]
fn keys_that_are_almost_right_are_refused() {
    changed_everywhere(r#""name":"ECDSA","namedCurve":"P-521""#);
    changed_everywhere(r#""name":"X25519""#);
    changed_everywhere(r#""name":"RSA-PSS","modulusLength":2048"#);
}

#[test]
fn der_has_one_form() {
    let import = |spki: &str| {
        ask(r#"{"operation":"importKey","name":"Ed25519","format":"spki"}"#, ["", spki, "", ""])
    };
    let key = "00".repeat(32);
    assert!(import(&format!("302a300506032b6570032100{key}")).is_ok());
    for wrong in [
        // A length in its long form; parameters; unused bits; another tag.
        format!("30812a300506032b6570032100{key}"),
        format!("302c300706032b65700500032100{key}"),
        format!("302a300506032b6570032101{key}"),
        format!("302a300506032b6570042100{key}"),
    ] {
        assert!(matches!(import(&wrong), Err(Error::Data(_))), "{wrong}");
    }
}
