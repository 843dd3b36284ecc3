//! The example with a balancer over the registry, as a user runs it.

use std::process::Command;

/// The numbers in a line of the example's summary: asked, answered, attempts that failed.
fn numbers(output: &str, stage: &str) -> [u64; 3] {
    let line = output.lines().find_map(|line| line.strip_prefix(stage)).unwrap_or_else(|| panic!("{stage}: {output}"));
    let numbers: Vec<u64> = line.split(|c: char| !c.is_ascii_digit()).filter_map(|word| word.parse().ok()).collect();
    numbers.try_into().unwrap_or_else(|_| panic!("{line}"))
}

#[test]
fn requests_go_on_when_an_instance_of_a_service_is_killed() {
    let output = Command::new(env!("CARGO_BIN_EXE_balance")).output().unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
    for name in ["one", "two", "three"] {
        assert!(said.contains(&format!("{name} is offered at 127.0.0.1:")), "{said}");
    }
    assert!(said.find("two is killed").unwrap() < said.rfind("two is gone").unwrap(), "{said}");

    let [asked, answered, _] = numbers(&said, "all alive:");
    assert!(asked >= 300 && answered == asked, "{said}");
    // The registry does not know yet: attempts fail there, and all but a few requests are saved by trying again.
    let [asked, answered, failed] = numbers(&said, "one dead and still offered:");
    assert!(failed > 0 && answered * 50 >= asked * 49, "{said}");
    // It knows: nobody is sent to the dead one, and nothing is lost.
    let [asked, answered, failed] = numbers(&said, "the dead one gone:");
    assert!(asked >= 300 && answered == asked && failed == 0, "{said}");
}
