"""The T-L network of ACNN: from images to codes of shapes; see `anatozoo.methods.acnn`."""
