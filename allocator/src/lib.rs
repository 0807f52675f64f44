//! Number spaces, pools, selection, sharing and ledger blocks; pure.
