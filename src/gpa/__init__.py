"""Guest Proxy Agent: metadata services for those who may ask."""
