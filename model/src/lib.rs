//! Shared words of Portolan: keys, families, numbers, reasons.
