"""Model providers: one small module for each wire format, over the vendors' own SDKs."""
