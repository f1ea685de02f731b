"""The shape prior of ACNN as a method of its own: label maps in, codes out; see `anatozoo.methods.acnn`."""
