use sonde::kernel::*; use sonde::probe::*; use sonde_abi::*;
fn main(){
 let f=Features::detect(); let types=f.types.clone().unwrap();
 let fam= if std::env::args().nth(1).as_deref()==Some("syscalls") {HookFamily::Syscalls} else {HookFamily::Lengths};
 let s=Settings{family:fam, selection: settings::Selection{by_port:1,by_process:0,own_tgid:std::process::id(),pid_max:f.pid_max}, ports: std::env::args().skip(2).map(|p|p.parse().unwrap()).collect()};
 let (p,mut ring)=match Probes::attach(&types,&s){Ok(x)=>x,Err(e)=>{eprintln!("{e}");std::process::exit(1)}};
 eprintln!("{:#?}",p.attached);
 let t=std::time::Instant::now();
 while t.elapsed().as_secs()<4 { ring.wait(std::time::Duration::from_millis(50)); ring.drain(10000,|b| match Record::decode(b){Ok(Record::Chunk(h,p))=>println!("{} {} dir={} pos={} len={} cap={} q={}us tid={} f={:x}/{:x} {}->{} role={} fl={:x} tail={:?} {:?}",h.time_ns,h.sock,h.direction,h.position,h.length,h.captured,h.queued_us,h.tid,h.first_local,h.first_peer,h.local_port,h.peer_port,h.role,h.flags,String::from_utf8_lossy(&h.tail),String::from_utf8_lossy(&p[..p.len().min(60)])),Ok(Record::Life(h,p))=>println!("life {h:?} {:?}",String::from_utf8_lossy(p)),Err(e)=>println!("{e}")});}
}
