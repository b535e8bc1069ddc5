//! Everything that two Strewn implementations must agree on, and nothing that touches the outside.
//!
//! No sockets, files, clock, threads or global randomness: time and random seeds are arguments.
//! From top to bottom: names ([`id`], [`label`], [`time`]), how values become bytes ([`codec`]) and
//! statements ([`sign`]), whose key speaks for an operator ([`succession`]), who vouches for whom ([`certificate`]) and what shows that it is true ([`evidence`]), who swaps with whom ([`partner`], [`agreement`]), what must hold ([`policy`],
//! [`placement`]), how a source becomes shards ([`chunk`], [`item`], [`pack`], [`erasure`]), what is
//! said about them ([`record`], [`log`], [`tag`]), how long it is kept and who can end that ([`lock_clock`], [`life`], [`hold`],
//! [`release`], [`discharge`], [`retention`], [`given_up`]), what finds a holder out that forgot what it promised ([`promise`]), and how much may
//! come ([`budget`]), what was held and done in a month, so that two operators agree about it ([`tally`]), how a swap ends ([`notice`]), how a vault is found again ([`recovery`], [`share`]), who is lost
//! ([`liveness`]) and what is done about it ([`repair`]), who may go ([`leave`]), what is sent ([`message`]) and believed ([`told`]), what anybody can check of it all ([`proof`]) and rehearse
//! ([`survey`]), and the state machine of one
//! node that holds it together ([`Peer`]).

pub mod agreement;
pub mod audit;
pub mod budget;
pub mod certificate;
pub mod chunk;
pub mod codec;
pub mod discharge;
pub mod erasure;
pub mod evidence;
pub mod given_up;
pub mod hold;
pub mod id;
pub mod index;
pub mod item;
pub mod label;
pub mod leave;
pub mod life;
pub mod liveness;
pub mod lock_clock;
pub mod log;
pub mod message;
pub mod notice;
pub mod observed;
pub mod pack;
pub mod partner;
pub mod peer;
pub mod placement;
pub mod planted;
pub mod policy;
pub mod promise;
pub mod proof;
pub mod record;
pub mod recovery;
pub mod release;
pub mod repack;
pub mod repair;
pub mod retention;
pub mod scrub;
pub mod seal;
pub mod served;
pub mod share;
pub mod sign;
pub mod size;
pub mod succession;
pub mod survey;
pub mod tag;
pub mod tally;
pub mod time;
pub mod told;

pub use peer::Peer;
