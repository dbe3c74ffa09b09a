//! Links the runtime of afl++ if `./run` builds; without it the targets can only replay.

fn main() {
    println!("cargo::rustc-check-cfg=cfg(afl)");
    println!("cargo::rerun-if-env-changed=AFL_RUNTIME");
    if let Ok(runtime) = std::env::var("AFL_RUNTIME") {
        println!("cargo::rustc-cfg=afl");
        println!("cargo::rustc-link-arg-bins={runtime}");
    }
}
