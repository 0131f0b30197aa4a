use cotangent_build::*;
fn main() {
    let mut sources = source::Sources::default();
    for p in std::env::args().skip(1) {
        let mut out = diagnostic::Diagnostics::default();
        let id = sources.add(&p, std::fs::read_to_string(&p).unwrap());
        let t = std::time::Instant::now();
        if let Some(c) = pipeline::certified(id, &sources, &mut out) {
            let e = t.elapsed();
            let ks = pipeline::kernels(&c, &mut out);
            println!("{p}: {:?} {} {:?}", c.certificate, ks.len(), e);
            if std::env::var("V").is_ok() {
                print!("{}", index::print::op(&c.op));
                for k in ks {
                    print!("{}", plain::print::kernel(&k));
                }
            }
        }
        if !out.is_empty() {
            println!("{}", out.render(&sources));
        }
    }
}
