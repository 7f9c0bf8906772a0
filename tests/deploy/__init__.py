"""Tests of what runs the gateway elsewhere: rules, dashboards, image, chart, units."""
