//! Decides whether this is a build in which bugs can be planted (`src/planted.rs`). Not a feature, so that no set of features of the whole
//! workspace can bring it into a program that people run; and not a flag to the compiler, so that no dependency is built again for it.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-env-changed=STREWN_CAN_PLANT");
    println!("cargo::rustc-check-cfg=cfg(strewn_planted)");
    if std::env::var_os("STREWN_CAN_PLANT").is_some() {
        println!("cargo::rustc-cfg=strewn_planted");
    }
}
