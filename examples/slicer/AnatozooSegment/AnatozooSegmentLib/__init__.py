"""What the module AnatozooSegment needs beside Slicer."""
