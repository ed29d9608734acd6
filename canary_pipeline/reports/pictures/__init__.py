"""Pictures (PNG). Import only where one is made: matplotlib takes longer to import than to draw."""
